"""Consistency of an image's labels with the image and with each other: image label, masks, blocks and boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adjobs.data.checks.masks import MaskSummary, find_inverted, summarize_mask
from adjobs.data.dataset import Sample
from adjobs.data.formats.loco import read_defects
from adjobs.data.images import ImageError
from adjobs.data.labels.mask_values import MaskValues
from adjobs.data.labels.masks import ANOMALOUS, NORMAL, Layers, Mask, read_blocks, read_mask_details
from adjobs.data.problem import OUT_OF_MEMORY, Problem, Severity
from adjobs.errors import DataError

BOX_MARGIN = 1.0
"""Pixels by which a box may extend beyond its image: annotation tools round outwards."""


class Finding(NamedTuple):
    """A problem of one sample: ``kind`` is one of a few fixed phrases, ``message`` says what is wrong and what to do."""

    kind: str
    message: str
    severity: Severity = "error"


def inspect_labels(sample: Sample, size: tuple[int, int]) -> tuple[list[Problem], MaskSummary | None]:
    """All problems with the labels of a sample, and what its mask images are like, if it has any that can be read.

    Args:
        sample: the sample.
        size: width and height of its upright image.
    """
    findings: list[Finding] = []
    summary = None
    if sample.mask is not None:
        details = _read(sample.mask)
        if isinstance(details, Finding):
            findings.append(details)
        else:
            findings.extend(_mask_problems(sample, sample.mask, details[0], size))
            summary = summarize_mask(sample.id, details[1])
    if sample.blocks is not None:
        findings.extend(_block_problems(sample, sample.blocks, size))
    if sample.boxes is not None:
        findings.extend(_box_problems(sample, size))
    return [Problem(sample.id, *finding) for finding in findings], summary


def _read(mask: Mask) -> tuple[np.ndarray, tuple[MaskValues, ...]] | Finding:
    """Pixels of a mask and its images, or why they cannot be read."""
    name = _name(mask)
    try:
        details = read_mask_details(mask)
        if isinstance(mask, Layers) and mask.kinds:
            read_defects(mask)  # otherwise only read by the metrics, after hours of training
    except ImageError as error:
        kind = error.kind if error.kind.startswith("mask") or error.kind == OUT_OF_MEMORY else "mask unreadable"
        layer = f", layer {Path(error.name).name}," if isinstance(mask, Layers) else ""
        return Finding(kind, f"{name}{layer} {error.reason}")
    except DataError as error:
        return Finding("mask unreadable", f"{name}: {error}")
    return details


def _mask_problems(sample: Sample, mask: Mask, pixels: np.ndarray, size: tuple[int, int]) -> Iterator[Finding]:
    name = _name(mask)
    height, width = pixels.shape
    if (width, height) != size:
        reason = f"is {width} x {height} pixels, but its image is {size[0]} x {size[1]}; export the mask at the image's size"
        yield Finding("mask size", f"{name} {reason}")
    if sample.label == "anomalous" and not pixels.any():
        reason = "has no defect pixel on an anomalous image; draw the defect, or remove the mask if its position is unknown"
        yield Finding("mask empty", f"{name} {reason}")
    if sample.label == "normal" and pixels.any():
        reason = f"has {int(pixels.sum())} defect pixels on a normal image, which has no defects; fix the label or the mask"
        yield Finding("mask not empty", f"{name} {reason}")
    elif reason := find_inverted(pixels):
        yield Finding("mask inverted", f"{name} {reason}", "warning")


def _block_problems(sample: Sample, path: Path, size: tuple[int, int]) -> Iterator[Finding]:
    name = f"block grid {path.name}"
    try:
        blocks = read_blocks(path)
    except ImageError as error:
        yield Finding("blocks unreadable", f"{name} {error.reason}")
        return
    rows, columns = blocks.shape
    if columns > size[0] or rows > size[1]:
        reason = f"has {columns} x {rows} blocks, more than its image has pixels ({size[0]} x {size[1]}); export the grid again"
        yield Finding("blocks size", f"{name} {reason}")
    if sample.label == "anomalous" and (blocks == NORMAL).all():
        reason = "has only normal blocks on an anomalous image; label the defect, or remove the grid if its position is unknown"
        yield Finding("blocks empty", f"{name} {reason}")
    if sample.label == "normal" and (blocks == ANOMALOUS).any():
        reason = f"has {int((blocks == ANOMALOUS).sum())} anomalous blocks on a normal image, which has no defects"
        yield Finding("blocks not empty", f"{name} {reason}; fix the label or the grid")


def _box_problems(sample: Sample, size: tuple[int, int]) -> Iterator[Finding]:
    boxes = sample.boxes or ()
    if sample.label == "anomalous" and not boxes:
        yield Finding("boxes empty", "is anomalous but has an empty list of boxes; draw one around each defect, or omit boxes")
    if sample.label == "normal" and boxes:
        reason = "on a normal image, which has no defects; fix the label or remove the boxes"
        yield Finding("boxes not empty", f"has {len(boxes)} boxes {reason}")
    for box in boxes:
        text = f"box from ({box.left:g}, {box.top:g}) to ({box.right:g}, {box.bottom:g})"
        finite = all(map(math.isfinite, box))
        if not (finite and box.left < box.right and box.top < box.bottom):
            yield Finding(
                "box empty", f"{text} has no area; it must have left < right and top < bottom; draw it again or remove it"
            )
        elif min(box.left, box.top) < -BOX_MARGIN or box.right > size[0] + BOX_MARGIN or box.bottom > size[1] + BOX_MARGIN:
            reason = f"extends beyond the image of {size[0]} x {size[1]} pixels; draw it inside, or fix its units"
            yield Finding("box outside", f"{text} {reason}")


def _name(mask: Mask) -> str:
    if isinstance(mask, Path):
        return f"mask {mask.name}"
    return f"mask {mask.paths[0].parent.name}" if isinstance(mask, Layers) else "the segmentation"
