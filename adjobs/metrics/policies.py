"""The threshold policies by name, and the value that each takes. Without arrays and pydantic: the command line starts fast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from adjobs.metrics import CONFIDENCE

Policy = Literal["fixed", "max_f1", "max_fpr", "miss_cost", "defect_ratio"]

POLICIES: Mapping[Policy, str] = {
    "fixed": "`value` itself",
    "max_f1": "the best F1 on validation",
    "max_fpr": "the lowest threshold at which at most the share `value` of normal validation images or pixels raises an alarm",
    "miss_cost": "the least of `value` x misses + false alarms on validation: a miss costs `value` times a false alarm",
    "defect_ratio": "as close as possible to the share `value` of validation raises an alarm; by default its share of anomalies",
}

DEFAULT_MAX_FPR = 0.01
"""Of images."""

DEFAULT_PIXEL_MAX_FPR = 0.001
"""Of the pixels of normal images: 66 of 256 x 256, a spot of 8 x 8."""


@dataclass(frozen=True)
class ThresholdPolicy:
    """How a threshold is chosen on validation.

    Attributes:
        name: one of `POLICIES`.
        value: the largest share of false alarms for max_fpr, in [0, 1); the threshold for fixed; the cost of a miss over the
            cost of a false alarm for miss_cost, above 0; the share of all images or pixels that is to raise an alarm for
            defect_ratio, in (0, 1), or None for the share of the anomalous ones; None for max_f1.
        confidence: of the bound on the false-alarm rate, in (0, 1).
        strict: for max_fpr: keep the bound, not only the share on validation, at or below ``value``.
    """

    name: str
    value: float | None = None
    confidence: float = CONFIDENCE
    strict: bool = False

    def __str__(self) -> str:
        """Name and value, such as ``max_fpr 0.01``."""
        return self.name if self.value is None else f"{self.name} {self.value:g}"

    @property
    def needs_anomalies(self) -> bool:
        """Whether it weighs misses against false alarms, and so needs anomalous validation images (for pixels: masks)."""
        return self.name in ("max_f1", "miss_cost") or (self.name == "defect_ratio" and self.value is None)

    def find_fault(self) -> str | None:
        """What is wrong with the value of a known policy, in words for the user; None if nothing is."""
        if self.strict and self.name != "max_fpr":
            return f"policy {self.name}: got strict=true, allowed with max_fpr only; set strict to false, or choose max_fpr"
        if self.strict and self.value == 0:
            return "policy max_fpr: got value 0 with strict=true, a bound that no number of images reaches; set value above 0"
        if self._is_value_allowed():
            return None
        allowed, advice = _ALLOWED[self.name]
        return f"policy {self.name}: got value {self.value}, allowed is {allowed}; {advice}"

    def _is_value_allowed(self) -> bool:
        if self.name == "max_f1" or self.value is None:
            return self.value is None and self.name in ("max_f1", "defect_ratio")
        if self.name == "max_fpr":
            return 0 <= self.value < 1
        if self.name == "defect_ratio":
            return 0 < self.value < 1
        return math.isfinite(self.value) and (self.name == "fixed" or self.value > 0)


_ALLOWED = {
    "fixed": ("a finite number", "set value to the threshold"),
    "max_f1": ("no value", "leave it out"),
    "max_fpr": ("0 or more and below 1", f"set value to the share of false alarms to accept, such as {DEFAULT_MAX_FPR}"),
    "miss_cost": ("a finite number above 0", "set value to what a miss costs over what a false alarm costs, such as 20"),
    "defect_ratio": ("above 0 and below 1", "set value to the share that is to raise an alarm, or leave it out"),
}
