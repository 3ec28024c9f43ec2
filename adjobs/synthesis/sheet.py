"""Simulated anomalies for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from adjobs.types import Simulated

COLUMNS = 8
GAP = 4  # pixels between pictures
PAPER = 255
STRUCTURAL, LOGICAL = (255, 255, 255), (90, 170, 255)  # colours of the masks


def draw_sheet(images: Tensor, simulated: Simulated, further: Sequence[Tensor] = ()) -> np.ndarray:
    """A contact sheet: bands of the good pictures, below each the same with its anomaly, below that the mask.

    Masks of logical anomalies are blue.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1], as they were.
        simulated: what became of them.
        further: more pictures of each, ``(B, 3, H, W)`` in [0, 1], to be drawn below.

    Returns:
        ``(height, width, 3)`` uint8.
    """
    logical = [False] * len(images) if simulated.logical is None else simulated.logical.tolist()
    colours = np.array([LOGICAL if kind else STRUCTURAL for kind in logical], dtype=np.uint8)
    masks = list(simulated.masks[:, 0, :, :, None].cpu().numpy() * colours[:, None, None])
    columns = [
        list(column) for column in zip(_bytes(images), _bytes(simulated.images), masks, *map(_bytes, further), strict=True)
    ]
    return _stack([_band(columns[start : start + COLUMNS], len(columns)) for start in range(0, len(columns), COLUMNS)], GAP * 4)


def save_sheet(sheet: np.ndarray, path: Path) -> None:
    """Write a sheet as PNG, beside its place first."""
    unfinished = path.with_suffix(".unfinished.png")
    Image.fromarray(sheet).save(unfinished)
    unfinished.replace(path)


def _bytes(images: Tensor) -> list[np.ndarray]:
    return list((images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())


def _band(columns: Sequence[Sequence[np.ndarray]], total: int) -> np.ndarray:
    """Columns side by side, filled up with paper to the width of a full band where there are several bands."""
    drawn = [_stack(column, GAP) for column in columns]
    blank = np.full_like(drawn[0], PAPER)
    drawn += [blank] * (min(COLUMNS, total) - len(drawn))
    return _stack([column.swapaxes(0, 1) for column in drawn], GAP).swapaxes(0, 1)


def _stack(pictures: Sequence[np.ndarray], gap: int) -> np.ndarray:
    """One below the other, with paper between them."""
    between = np.full((gap, *pictures[0].shape[1:]), PAPER, dtype=np.uint8)
    parts = [part for picture in pictures for part in (picture, between)][:-1]
    return np.concatenate(parts)
