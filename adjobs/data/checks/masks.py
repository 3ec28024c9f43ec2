"""Masks that look wrong by themselves (inverted, nearly full) or beside the others of their data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adjobs.data.labels.mask_values import MaskValues, Rule
from adjobs.data.problem import Problem

NEARLY_FULL = 0.9
"""Share of an image from which a mask is called nearly full."""

MANY_VALUES = 16
"""Values of a mask from which it looks smoothed or compressed."""

MOST = 0.8
"""Share of masks that must have at most one value besides 0 for one of many values to stand out."""


class MaskSummary(NamedTuple):
    """What is kept of a sample's mask: ``rule`` and number of values as in :class:`MaskValues`, the largest of its layers."""

    sample: str
    rule: Rule
    values: int


def summarize_mask(sample: str, layers: Sequence[MaskValues]) -> MaskSummary | None:
    """The summary of a mask's images; None for outlines, which have none."""
    layer = max(layers, key=lambda layer: layer.values, default=None)
    return MaskSummary(sample, layer.rule, layer.values) if layer else None


def find_inverted(defect: np.ndarray) -> str:
    """Why a mask ``(H, W)`` bool looks as if it marked what is normal; "" if it does not."""
    share = float(defect.mean())
    border = np.concatenate([defect[0], defect[-1], defect[:, 0], defect[:, -1]])
    if share > 0.5 and border.mean() > 0.5:
        return (
            f"marks {share:.0%} of the image as defect, and most of its edge; it looks inverted; the background must be black "
            "or transparent; check it"
        )
    if share > NEARLY_FULL:
        return f"marks {share:.0%} of the image as defect, nearly all of it; check it"
    return ""


def mask_problems(masks: Sequence[MaskSummary]) -> list[Problem]:
    """Warnings about masks of several values: how all are read, and those that are unlike the others."""
    problems: list[Problem] = []
    classes = [mask for mask in masks if mask.rule == "classes"]
    if classes:
        message = (
            f"{len(classes)} of {len(masks)} masks have several values besides 0, such as that of {classes[0].sample} "
            f"({classes[0].values - 1}); every one of them is read as defect"
        )
        problems.append(Problem("", "mask values", message, "warning"))
    smoothed = [mask for mask in masks if mask.rule == "half" and mask.values >= MANY_VALUES]
    plain = sum(mask.rule == "binary" for mask in masks)
    if plain >= MOST * len(masks):
        for mask in smoothed:
            message = (
                f"mask has {mask.values} values, while {plain} of {len(masks)} masks have two; it looks compressed or resized; "
                "pixels above half are read as defect; export it again as PNG"
            )
            problems.append(Problem(mask.sample, "mask values", message, "warning"))
    return problems
