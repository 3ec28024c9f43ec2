"""Types that every layer shares. Labels are 0 for normal and 1 for anomalous; a higher score is more anomalous."""

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
    """The images of one training step, on the device that trains.

    Attributes:
        images: ``(B, 3, H, W)`` float32 in [0, 1], not normalised.
        labels: ``(B,)`` int64, 0 normal, 1 anomalous.
        masks: ``(B, 1, H, W)`` bool, True on labelled defect pixels; all False without pixel labels.
        unknown: ``(B, 1, H, W)`` bool, True where the label does not say whether the pixel is normal: inside boxes, in undecided
            blocks, everywhere on an anomalous image without pixel labels.
        simulate: ``(B,)`` bool, True for normal images on which the method must simulate an anomaly.
        indices: ``(B,)`` int64, indices of the images, the same in every step, worker and run.
        generator: the only source of randomness in the step, on the images' device.
        simulated_rows: the rows that ``simulate`` marks, from ``start`` up to ``stop``, known without a look at the device.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    unknown: Tensor
    simulate: Tensor
    indices: Tensor
    generator: Generator
    simulated_rows: slice


class Simulated(NamedTuple):
    """Images with simulated anomalies.

    Attributes:
        images: ``(B, 3, H, W)`` in [0, 1].
        masks: ``(B, 1, H, W)`` bool, True on changed pixels and on labelled defects; all other pixels are unchanged.
        logical: ``(B,)`` bool, True for logical anomalies; None for methods that do not distinguish them.
    """

    images: Tensor
    masks: Tensor
    logical: Tensor | None = None


class StepLoss(NamedTuple):
    """Loss of a training step: ``total``, a scalar to differentiate, and ``terms``, detached scalars to log."""

    total: Tensor
    terms: dict[str, Tensor]


class Prediction(NamedTuple):
    """A method's prediction for B images.

    Attributes:
        score: ``(B,)`` image scores.
        anomaly_map: ``(B, 1, H, W)`` pixel scores at the size of the images, not always on the scale of ``score``; None if the
            method gives none.
        extra_scores: further image scores ``(B,)`` by name: evaluated, but not used for decisions.
    """

    score: Tensor
    anomaly_map: Tensor | None
    extra_scores: Mapping[str, Tensor] | None = None


class ImageScores(NamedTuple):
    """Predictions for the images of a split, with their labels.

    Attributes:
        ids: N sample ids.
        labels: ``(N,)`` int64, 0 normal, 1 anomalous.
        score: ``(N,)`` float64.
        defects: N defect types, "" for normal images.
        anomaly_maps: ``(N, H, W)`` float32; None if the method gives none.
        masks: ``(N, H, W)`` bool, True on defect pixels; None if no anomalous image of the split has a mask.
        extra_scores: further image scores by name, each ``(N,)`` float64.
        groups: N names of the parts that the images show; None if no image has one.
        mask_known: ``(N,)`` bool, False for anomalous images without a mask, whose ``masks`` are all False; None if every mask
            is known.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    score: np.ndarray
    defects: tuple[str, ...]
    anomaly_maps: np.ndarray | None
    masks: np.ndarray | None
    extra_scores: Mapping[str, np.ndarray] = MappingProxyType({})
    groups: tuple[str, ...] | None = None
    mask_known: np.ndarray | None = None

    @property
    def complete_masks(self) -> np.ndarray | None:
        """The masks if every anomalous image has one: what is computed over all pixels would otherwise rest on unknown ones."""
        return self.masks if self.mask_known is None or self.mask_known.all() else None
