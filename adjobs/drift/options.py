"""How drift is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from adjobs.errors import JobError, choices, shown

Reference = Literal["val", "test", "both"]
"""The splits whose normal images are the reference; a model is fitted to none of them."""

MIN_ALPHA, MAX_ALPHA = 0.001, 0.2
MAX_SHARE = 0.5
MIN_LIMIT = 20


@dataclass(frozen=True)
class DriftOptions:
    """How drift is measured.

    Attributes:
        alpha: probability of reporting drift where there is none, of all tests together; 0.001 to 0.2.
        max_anomalous_share: share of the recent images that may be anomalous without being drift, in [0, 0.5).
        effect: shift in standard deviations that must be detectable, with probability 0.8, for "no drift shown"; above 0.
        reference: split whose normal images are the reference. Those of the test split are more images, if they are not needed
            for anything else.
        limit: largest number of images of each sample; of more a random subset is taken. At least 20.
        seed: of subsets and tests; not negative.
        follow_links: follow symbolic links that lead out of folders of recent images.
        device: ``auto`` (a GPU where there is one), or a torch device.

    Raises:
        JobError: a value out of range.
    """

    alpha: float = 0.01
    max_anomalous_share: float = 0.05
    effect: float = 1.0
    reference: Reference = "val"
    limit: int = 1000
    seed: int = 0
    follow_links: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        if not MIN_ALPHA <= self.alpha <= MAX_ALPHA:
            raise JobError(f"alpha: got {self.alpha}, must be from {MIN_ALPHA} to {MAX_ALPHA}")
        if not 0 <= self.max_anomalous_share < MAX_SHARE:
            raise JobError(f"max_anomalous_share: got {self.max_anomalous_share}, must be at least 0 and below {MAX_SHARE}")
        if not (math.isfinite(self.effect) and self.effect > 0):
            raise JobError(f"effect: got {self.effect}, must be above 0 (standard deviations)")
        if self.limit < MIN_LIMIT:
            raise JobError(f"limit: got {self.limit}, must be at least {MIN_LIMIT}")
        if self.seed < 0:
            raise JobError(f"seed: got {self.seed}, must be 0 or more")
        if self.reference not in get_args(Reference):
            raise JobError(f"reference: unknown split {shown(self.reference)}; {choices(self.reference, get_args(Reference))}")

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits of the reference."""
        return ("val", "test") if self.reference == "both" else (self.reference,)
