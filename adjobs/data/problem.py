"""What the checks of a data set report, and what a job requires of its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIN_NORMAL_IMAGES = 10
"""With fewer normal images, a model sees too little of how they vary."""

OUT_OF_MEMORY = "out of memory"
"""Kind of the problem of an image for which the memory was not enough, this time."""

LAYOUT = "layout"
"""Kind of the error of a file that does not fit the layout of its data set."""

LOST_LABELS = "no annotations"
"""Kind of the warning of an export in which all images are normal, for lack of a single annotation."""

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """A problem of a data set.

    Attributes:
        sample: id of the sample, or "" if the problem concerns the data set as a whole.
        kind: one of a few fixed phrases, such as "truncated" or "mask empty".
        message: what is wrong, what is allowed, what to do.
        severity: an error prevents training unless its sample is skipped; a warning is only printed and recorded.
    """

    sample: str
    kind: str
    message: str
    severity: Severity = "error"


@dataclass(frozen=True)
class DataRequirements:
    """What a job requires of its data.

    Attributes:
        min_normal_images: usable normal images in the whole data set.
        needs_train_anomalies: whether the method needs labelled anomalies in the training split.
        needs_val_anomalies: whether the threshold needs anomalies in the validation split.
        selects_on_val: whether validation selects the checkpoint; without anomalies there, the last checkpoint is used.
        min_val_normals: normal images in the validation split.
    """

    min_normal_images: int = MIN_NORMAL_IMAGES
    needs_train_anomalies: bool = False
    needs_val_anomalies: bool = False
    selects_on_val: bool = False
    min_val_normals: int = 1
