"""What an engine is, and the names that choose one and its outputs. Without PyTorch, which ``adjobs --help`` does not need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, get_args

if TYPE_CHECKING:
    import numpy as np

    from adjobs.evaluation.predictions import PredictionArrays

EngineName = Literal["auto", "torch", "openvino"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
GraphFormat = Literal["onnx", "openvino"]
FORMATS: tuple[GraphFormat, ...] = get_args(GraphFormat)
"""What detectors are exported to."""

SCORE, MAP, EXTRA = "score", "map", "extra "
"""Names of a converted method's outputs; further scores have their own, after the last."""


class Engine(Protocol):
    """Computes predictions."""

    def predict(self, images: np.ndarray) -> PredictionArrays:
        """Predict ``(B, S, S, 3)`` uint8 images of the detector's size, for every B ≥ 1."""
        ...
