"""A detector behind HTTP: images in, decisions out, by uvicorn on one machine or by Ray Serve on a cluster.

Importing this package loads neither PyTorch nor Ray nor MLflow: detectors may be served where they are not installed.
"""
