"""Predictions by OpenVINO: a graph that was made of a method, compiled for this processor. Without PyTorch."""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from adjobs.evaluation.predictions import PredictionArrays
from adjobs.inference.engine_contract import EXTRA, MAP, SCORE
from adjobs.inference.openvino_core import CORE
from adjobs.parallel import cores

if TYPE_CHECKING:
    from adjobs.methods.method import Method

Precision = Literal["f32", "bf16"]


class OpenVINOEngine:
    """A method's prediction as a compiled graph for one image; images of a batch are computed one after another.

    On a processor, batches gain nothing over single images, and with this an image's prediction does not depend on its batch.

    Args:
        path: what :func:`adjobs.inference.conversion.convert` wrote; it is not needed afterwards.
        precision: in which networks are computed. ``bf16``, OpenVINO's own choice on processors that multiply it in hardware,
            changes maps by percents of their range.

    Raises:
        RuntimeError: the file is damaged.
    """

    def __init__(self, path: Path, precision: Precision = "f32") -> None:
        hints = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": cores(),
        }
        # OpenVINO 2026.4 divides sums by wrong numbers in a model as it comes from the converter, not in one that is read.
        compiled = CORE.compile_model(CORE.read_model(path), "CPU", hints)
        self._outputs = {name: index for index, output in enumerate(compiled.outputs) for name in output.get_names()}
        self._request, self._lock = compiled.create_infer_request(), threading.Lock()

    @classmethod
    def of(cls, method: Method, image_size: int, precision: Precision = "f32") -> Self:
        """The engine of a method on the CPU, which is neither changed nor kept.

        Raises:
            Exception: the method cannot be exported or converted; which class depends on the reason.
        """
        from adjobs.inference.conversion import convert

        with TemporaryDirectory(prefix="adjobs-") as folder:
            path = Path(folder) / "model.xml"
            convert(method, image_size, path)
            return cls(path, precision)

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
