"""What a detector computes for images, as arrays. Without PyTorch: exported detectors run where it is not installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adjobs.errors import AdjobsError

EVAL_BATCH = 16  # large enough to keep a processor busy, small enough for the maps of any method
DIVERGED = "the training diverged: lower the learning rate, or use train.precision fp32"


class ScoreError(AdjobsError):
    """A method gives scores that are NaN or infinite, from which no decision follows."""


class PredictionArrays(NamedTuple):
    """Predictions for B images as arrays.

    Attributes:
        score: ``(B,)`` float64.
        anomaly_maps: ``(B, H, W)`` float32, or None.
        extra_scores: the method's further scores by name, each ``(B,)`` float64.
    """

    score: np.ndarray
    anomaly_maps: np.ndarray | None
    extra_scores: dict[str, np.ndarray]


def check_finite(prediction: PredictionArrays, names: Sequence[str]) -> None:
    """Refuse predictions from which no decision follows: NaN is neither below nor above a threshold.

    Args:
        prediction: for B images.
        names: of the B images.

    Raises:
        ScoreError: a score, a further score or a pixel of an anomaly map is NaN or infinite.
    """
    valid = np.isfinite(prediction.score)
    for values in prediction.extra_scores.values():
        valid &= np.isfinite(values)
    if prediction.anomaly_maps is not None:  # NaN survives min and max
        valid &= np.isfinite(prediction.anomaly_maps.min((1, 2))) & np.isfinite(prediction.anomaly_maps.max((1, 2)))
    invalid = [name for name, is_valid in zip(names, valid, strict=True) if not is_valid]
    if invalid:
        others = f" (and of {len(invalid) - 1} more)" if len(invalid) > 1 else ""
        raise ScoreError(f"{invalid[0]}: the score or the anomaly map{others} is NaN or infinite, must be finite; {DIVERGED}")
