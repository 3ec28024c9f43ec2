"""A detector as one graph for ONNX Runtime or OpenVINO, from the pixels of a camera's image to the decision."""
