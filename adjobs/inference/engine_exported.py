"""Exported detectors, computed by the runtime that they were exported for. Without PyTorch."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from adjobs.errors import JobError
from adjobs.evaluation.predictions import PredictionArrays
from adjobs.inference.engine_contract import GraphFormat
from adjobs.parallel import cores

IMAGE, SCORE, ANOMALY_MAP = "image", "score", "anomaly_map"  # names inside exported models
PACKAGES: dict[GraphFormat, str] = {"onnx": "onnxruntime", "openvino": "openvino"}


class _Runtime(Protocol):
    """A loaded model; one image at a time."""

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs for ``(1, H, W, 3)`` uint8, by name."""
        ...


class ExportedEngine:
    """An exported model. Images of a batch are computed one after another, so that none depends on its batch.

    Args:
        path: of the ``.onnx`` or ``.xml`` file.
        format: which runtime computes it.
        image_size: S, where all images have that size, which saves the resize inside the model; None for images of any size.

    Raises:
        JobError: the runtime is not installed.
        Exception: the file is damaged; which class depends on the runtime.
    """

    def __init__(self, path: Path, format: GraphFormat, image_size: int | None) -> None:
        package = PACKAGES[format]
        if importlib.util.find_spec(package) is None:
            raise JobError(f"exported model {path}: {package} is not installed; run: pip install 'adjobs[edge]'")
        self._runtime: _Runtime = (_OnnxRuntime if format == "onnx" else _OpenVINO)(path, image_size)
        self._lock = threading.Lock()  # a request computes one image at a time

    def predict(self, images: np.ndarray) -> PredictionArrays:
        """Predict ``(B, S, S, 3)`` uint8 images, or of any height and width if it was made for these."""
        with self._lock:
            rows = [self._runtime.run(np.ascontiguousarray(images[i : i + 1])) for i in range(len(images))]
        maps = np.concatenate([row[ANOMALY_MAP] for row in rows]) if ANOMALY_MAP in rows[0] else None
        return PredictionArrays(np.concatenate([row[SCORE] for row in rows]).astype(np.float64), maps, {})


class _OnnxRuntime:
    def __init__(self, path: Path, image_size: int | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores()
        options.log_severity_level = 3
        if image_size is not None:
            options.add_free_dimension_override_by_name("height", image_size)
            options.add_free_dimension_override_by_name("width", image_size)
        self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self._names, self._session.run(self._names, {IMAGE: image}), strict=True))


class _OpenVINO:
    def __init__(self, path: Path, image_size: int | None) -> None:
        from adjobs.inference.openvino_core import CORE

        model = CORE.read_model(path)
        if image_size is not None:
            model = _without_resize(model, image_size)
        # Without the first OpenVINO computes in bfloat16 where the processor has it, by which decisions change.
        hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": cores()}
        self._request: Any = CORE.compile_model(model, "CPU", hints).create_infer_request()
        self._names = [output.get_any_name() for output in model.outputs]

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        results = self._request.infer([image])
        return {name: results[name].copy() for name in self._names}


def _without_resize(model: Any, image_size: int) -> Any:
    """The model from behind its only condition, which resizes unless the image has this size: OpenVINO runs it all the same."""
    import openvino

    pixels = openvino.opset15.parameter([1, image_size, image_size, 3], np.uint8, name=IMAGE)
    (choice,) = [operation for operation in model.get_ordered_ops() if operation.get_type_name() == "If"]
    choice.output(0).replace(pixels.output(0))
    return openvino.Model(model.get_results(), [pixels])
