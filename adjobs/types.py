"""The words every layer shares. Labels are 0 for normal and 1 for anomalous; a higher score is more anomalous."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor

BackboneName = Literal[
    "hrnet_w18",
    "hrnet_w32",
    "hrnet_w48",
    "resnet18",
    "resnet34",
    "resnet50",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "wide_resnet50_2",
]


class JobStatus(StrEnum):
    """State of a job's run, in MLflow's words."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class Batch(NamedTuple):
    """One step's images on the device that trains.

    Attributes:
        images: ``(B, 3, H, W)`` float32 in [0, 1], not normalised.
        labels: ``(B,)`` int64, 0 normal, 1 anomalous.
        masks: ``(B, 1, H, W)`` bool, True on labelled defect pixels; all False where none are known.
        unknown: ``(B, 1, H, W)`` bool, True where the label leaves open whether the pixel is good: inside boxes, in undecided
            blocks, everywhere on an anomalous image without them.
        simulate: ``(B,)`` bool, True for normal images on which the method is to simulate an anomaly.
        indices: ``(B,)`` int64, which images these are: an image has the same number in every step, worker and run.
        generator: the only source of randomness in the step; lives on the images' device.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    unknown: Tensor
    simulate: Tensor
    indices: Tensor
    generator: Generator


class Simulated(NamedTuple):
    """Images on which anomalies were simulated.

    Attributes:
        images: ``(B, 3, H, W)`` in [0, 1].
        masks: ``(B, 1, H, W)`` bool, True where a pixel was changed and on labelled defects; nothing else was changed.
        logical: ``(B,)`` bool, which of them are logical anomalies, for methods that tell them apart.
    """

    images: Tensor
    masks: Tensor
    logical: Tensor | None = None


class StepLoss(NamedTuple):
    """What a training step returns: ``total`` to differentiate (scalar), ``terms`` to log (detached scalars)."""

    total: Tensor
    terms: dict[str, Tensor]


class Prediction(NamedTuple):
    """What a method says of B images.

    Attributes:
        score: ``(B,)``.
        anomaly_map: ``(B, 1, H, W)`` at the input's size, not always on the scale of the score; None for methods that locate nothing.
        extra_scores: further scores ``(B,)`` of the images by name, measured beside ``score`` but deciding nothing.
    """

    score: Tensor
    anomaly_map: Tensor | None
    extra_scores: Mapping[str, Tensor] | None = None


class ImageScores(NamedTuple):
    """Predictions for one part of a data set, beside what is known of it.

    Attributes:
        ids: N sample ids.
        labels: ``(N,)`` int64, 0 normal, 1 anomalous.
        score: ``(N,)`` float64.
        defects: N defect types ("" for normal images).
        anomaly_maps: ``(N, H, W)`` float32, or None.
        masks: ``(N, H, W)`` bool, or None when no sample of the part has a mask.
        extra_scores: the method's further scores by name, each ``(N,)`` float64.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    score: np.ndarray
    defects: tuple[str, ...]
    anomaly_maps: np.ndarray | None
    masks: np.ndarray | None
    extra_scores: Mapping[str, np.ndarray] = MappingProxyType({})
