"""Connected regions of defect pixels, in pixels of the image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage

MIN_REGION = 0.0002
"""Share of the image below which a region is dropped, 13 of 256 × 256 pixels: noise leaves such specks."""


class Region(NamedTuple):
    """A box in pixels of the image; right and bottom are the first column and row outside, as Pillow crops."""

    left: int
    top: int
    right: int
    bottom: int


def find_regions(defect_mask: np.ndarray, size: tuple[int, int]) -> tuple[tuple[Region, ...], np.ndarray]:
    """The connected regions of defect pixels, without those smaller than `MIN_REGION`.

    Args:
        defect_mask: ``(S, S)`` bool.
        size: width and height of the image before it was stretched to the square.

    Returns:
        A box for each 8-connected region, largest first, and the pixels of these regions, ``(S, S)`` bool.
    """
    numbers, _ = ndimage.label(defect_mask, structure=np.ones((3, 3)))
    areas = np.bincount(numbers.ravel())[1:]
    slices = ndimage.find_objects(numbers)
    large = [i for i in np.argsort(-areas, kind="stable") if areas[i] >= MIN_REGION * defect_mask.size]
    x, y = size[0] / defect_mask.shape[1], size[1] / defect_mask.shape[0]
    boxes = tuple(
        Region(math.floor(columns.start * x), math.floor(rows.start * y), math.ceil(columns.stop * x), math.ceil(rows.stop * y))
        for rows, columns in (slices[i] for i in large)
    )
    return boxes, np.isin(numbers, [i + 1 for i in large])
