"""Predictions by OpenVINO: everything from pixels to scores and anomaly map is one graph, compiled for this processor."""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose
from torch import Tensor

from adjobs.data.packing import scale
from adjobs.evaluation.evaluate import evaluation_mode
from adjobs.evaluation.predictions import PredictionArrays
from adjobs.inference.tracing import EXTRA, MAP, SCORE, exporting, flat_outputs, named_outputs, trace, write_out_half_rounding
from adjobs.methods.method import Method
from adjobs.parallel import cores


class OpenVINOEngine:
    """A method's prediction as a compiled graph for one image; images of a batch are computed one after another.

    On a processor, batches gain nothing over single images, and with this an image's prediction does not depend on its batch.

    Args:
        method: on the CPU; it is neither changed nor kept.
        image_size: height and width of the images, in pixels.
        precision: in which networks are computed. ``bf16``, OpenVINO's own choice on processors that multiply it in hardware,
            changes maps by percents of their range.

    Raises:
        Exception: the method cannot be exported or converted; which class depends on the reason.
    """

    def __init__(self, method: Method, image_size: int, precision: Literal["f32", "bf16"] = "f32") -> None:
        shape = (1, image_size, image_size, 3)
        example = torch.zeros(shape, dtype=torch.uint8)
        with evaluation_mode(method):
            prediction = method.predict(scale(example))
        named = named_outputs(prediction)
        unique = flat_outputs(prediction)
        self._outputs = {name: next(i for i, each in enumerate(unique) if each is value) for name, value in named.items()}
        hints = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": cores(),
        }
        with exporting:
            model = _convert(method, example)
        compiled = openvino.Core().compile_model(model, "CPU", hints)
        self._request, self._lock = compiled.create_infer_request(), threading.Lock()

    def predict(self, images: np.ndarray) -> PredictionArrays:
        """Predict ``(B, S, S, 3)`` uint8 images."""
        with self._lock:  # a request computes one image at a time
            rows = [self._infer(images[i : i + 1]) for i in range(len(images))]
        arrays = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        maps = arrays[MAP][:, 0].astype(np.float32, copy=False) if MAP in arrays else None
        extra_scores = {name.removeprefix(EXTRA): arrays[name].astype(np.float64) for name in arrays if name.startswith(EXTRA)}
        return PredictionArrays(arrays[SCORE].astype(np.float64), maps, extra_scores)

    def _infer(self, image: np.ndarray) -> dict[str, np.ndarray]:
        results: Any = self._request.infer([np.ascontiguousarray(image)])
        return {name: results[index] for name, index in self._outputs.items()}


def _convert(method: Method, example: Tensor) -> openvino.Model:
    """The graph of a method for images of the shape of ``example``."""
    exported = trace(method, example)
    kept = torch.export.default_decompositions()
    for operation in ops_to_not_decompose():
        kept.pop(operation, None)  # type: ignore[no-untyped-call]
    graph = exported.run_decompositions(kept).module()
    write_out_half_rounding(graph)
    # Not through openvino.convert_model, which reports its use to Google Analytics.
    decoder = TorchFXPythonDecoder(graph, dynamic_shapes=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(decoder))
    # OpenVINO 2026.4 divides sums by wrong numbers in a model as it comes from the converter, not in one that is read.
    with TemporaryDirectory(prefix="adjobs-") as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # the file is deleted
        return core.read_model(path)
