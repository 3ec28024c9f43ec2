"""The text that lies beside an exported model: how to feed it, and what comes out."""

from __future__ import annotations

from adjobs.inference.manifest import Graph, Manifest

_TEXT = """# Detector for {runtime}

`{file}` takes one image and says whether it is anomalous. Resize and threshold are inside.

| | name | shape | type | |
|---|---|---|---|---|
| input | `image` | 1, height, width, 3 | uint8 | RGB, upright, of any size{depth} |
| output | `score` | 1 | float32 | higher is more anomalous |
| output | `anomalous` | 1 | bool | the score is at least {threshold:.9g} |
{maps}
```python
{python}
```

With adjobs, without PyTorch (`pip install 'adjobs[edge]'`): `adjobs predict --model THIS_FOLDER IMAGES`, or
`adjobs.load_detector("THIS_FOLDER")`, which also give regions in pixels of the image.

Compared with PyTorch on {images} images: the score differs by at most {score:.1e} of the largest score{map_difference}.
Images of other sizes are resized by the model, to the grey levels that adjobs gives them: the score then differs by at most
{resized:.1e}.
{precision}
"""
_MAPS = """| output | `anomaly_map` | 1, {size}, {size} | float32 | of the image stretched to {size} × {size} |
"""
_MASK = """| output | `defect_mask` | 1, {size}, {size} | bool | the map is at least {value:.9g} |
"""
_PYTHON = {
    "onnx": """import numpy, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{file}")
image = numpy.asarray(Image.open("image.png").convert("RGB"))[None]
score, anomalous = session.run(["score", "anomalous"], {{"image": image}})""",
    "openvino": """import numpy, openvino
from PIL import Image

model = openvino.Core().compile_model("{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
image = numpy.asarray(Image.open("image.png").convert("RGB"))[None]
results = model(image)
score, anomalous = results["score"], results["anomalous"]""",
}
_PRECISION = """
Ask OpenVINO for float32, as above: by itself it computes in bfloat16 where the processor can, by which decisions change.
"""


def describe_folder(manifest: Manifest) -> str:
    """The text for an exported detector, in Markdown."""
    graph = manifest.graph
    if graph is None:
        raise ValueError("manifest: is of no exported detector")
    file, agreement = next(iter(graph.files)), graph.agreement
    reading, depth = manifest.image_reading, ""
    if reading.white is not None:  # the data set has images of more than 8 bits
        depth = f"; of images of more than 8 bits scale {reading.black:g} to {reading.white:g} to 0 to 255 before, and round"
    return _TEXT.format(
        runtime={"onnx": "ONNX Runtime", "openvino": "OpenVINO"}[graph.format],
        file=file,
        depth=depth,
        threshold=manifest.threshold.value,
        maps=_describe_maps(manifest, graph),
        python=_PYTHON[graph.format].format(file=file),
        images=agreement.images,
        score=agreement.score_difference,
        map_difference="" if agreement.map_difference is None else f", the map by {agreement.map_difference:.1e} of its range",
        resized=agreement.resized_score_difference,
        precision=_PRECISION if graph.format == "openvino" else "",
    )


def _describe_maps(manifest: Manifest, graph: Graph) -> str:
    if graph.agreement.map_difference is None:
        return ""
    size, pixel = manifest.image_size, manifest.pixel_threshold
    return _MAPS.format(size=size) + ("" if pixel is None else _MASK.format(size=size, value=pixel.value))
