"""The threshold policies by name, and the value that each takes: no arrays here, so that a job file is read in no time."""

from __future__ import annotations

import math
from collections.abc import Mapping

POLICIES: Mapping[str, str] = {
    "fixed": "`value` itself",
    "max_f1": "the best F1 on validation",
    "max_fpr": "the lowest threshold at which at most the share `value` of what is good in validation raises an alarm",
    "miss_cost": "the least of `value` x misses + false alarms on validation: a miss costs `value` times a false alarm",
    "defect_ratio": "as near as can be to the share `value` of validation raises an alarm; by default its share of anomalies",
}

DEFAULT_MAX_FPR = 0.01
"""Of images."""

DEFAULT_PIXEL_MAX_FPR = 0.001
"""Of the pixels of good images: 66 of 256 x 256, a spot of 8 x 8."""


def wrong_value(policy: str, value: float | None, *, strict: bool = False) -> str | None:
    """What is wrong with the value of one of `POLICIES`, in words for the user; None where nothing is.

    Args:
        policy: one of `POLICIES`.
        value: as the user gave it.
        strict: whether the rate of max_fpr is to be promised.
    """
    if strict and policy != "max_fpr":
        return f"policy {policy}: got strict=true, allowed with max_fpr alone; set strict to false, or choose max_fpr"
    if strict and value == 0:
        return "policy max_fpr: got value 0 with strict=true, but no number of images promises that; set value above 0"
    allowed, advice = _ALLOWED[policy]
    if _fits(policy, value):
        return None
    return f"policy {policy}: got value {value}, allowed is {allowed}; {advice}"


_ALLOWED = {
    "fixed": ("a finite number", "set value to the threshold"),
    "max_f1": ("no value", "leave it out"),
    "max_fpr": ("0 or more and below 1", f"set value to the share of false alarms to accept, such as {DEFAULT_MAX_FPR}"),
    "miss_cost": ("a finite number above 0", "set value to what a miss costs over what a false alarm costs, such as 20"),
    "defect_ratio": ("above 0 and below 1", "set value to the share that is to raise an alarm, or leave it out"),
}


def needs_anomalies(policy: str, value: float | None) -> bool:
    """Whether a policy weighs misses against false alarms, and so needs anomalous validation images (for pixels: masks)."""
    return policy in ("max_f1", "miss_cost") or (policy == "defect_ratio" and value is None)


def _fits(policy: str, value: float | None) -> bool:
    if policy == "max_f1" or value is None:
        return value is None and policy in ("max_f1", "defect_ratio")
    if policy == "max_fpr":
        return 0 <= value < 1
    if policy == "defect_ratio":
        return 0 < value < 1
    return math.isfinite(value) and (policy == "fixed" or value > 0)
