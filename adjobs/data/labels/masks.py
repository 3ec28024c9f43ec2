"""Where a defect is, as people say it: a mask, several masks, outlines, a grid of blocks, or boxes; and how one becomes another.

Coarser labels cost less to draw (SemiREST, Li et al. 2023): a mask says everything, a block grid says it coarsely, a box says
only that what lies outside is good. ``UNKNOWN`` stands for what a label leaves open.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy import ndimage

from adjobs.data.images import ImageError, decode, decode_mask
from adjobs.data.labels import polygons
from adjobs.errors import one_line

NORMAL, ANOMALOUS, UNKNOWN = 0, 1, 2

LabelDetail = Literal["full", "masks", "blocks", "boxes", "image"]
"""How much of its labels a training part shows: all that is known, or what is left when they are made coarser."""

BLOCK_ANOMALOUS, BLOCK_NORMAL = 0.25, 0.08
"""Shares of defect pixels from which a block is anomalous, and up to which it is normal (SemiREST, supervised: ε+ and ε−)."""

BLOCK_FREE = 0.9
"""Share of a block that must lie outside all boxes for it to be normal (lineage code of SemiREST)."""

MIN_BOX_AREA = 11
"""Pixels of the smallest region that gets a box: specks of up to ten are slips of the brush (lineage code of SemiREST)."""

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class Box(NamedTuple):
    """A rectangle in pixels of the upright image: ``left <= x < right``, ``top <= y < bottom``."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Layers:
    """A mask in several images, one for each defect (MVTec LOCO).

    Attributes:
        paths: images of the picture's size, one at least, not 0 on the defect's pixels.
        kinds: JSON file that says for each pixel value which kind of defect it stands for and when it counts as found in full
            (``pixel_value``, ``saturation_threshold``, ``relative_saturation``).
    """

    paths: tuple[Path, ...]
    kinds: Path | None = None


@dataclass(frozen=True)
class Shapes:
    """A mask as COCO writes it.

    Attributes:
        segmentations: JSON texts as ``json.dumps`` writes them, each a list of polygons ``[x0, y0, x1, y1, …]`` or a run-length
            code ``{"size", "counts"}``, see :mod:`adjobs.data.labels.polygons`.
        width: of the image, in pixels.
        height: of the image, in pixels.
    """

    segmentations: tuple[str, ...]
    width: int
    height: int


Mask = Path | Layers | Shapes


def files_of(mask: Mask | None) -> tuple[Path, ...]:
    """The files that a mask is read from."""
    if isinstance(mask, Layers):
        return mask.paths + ((mask.kinds,) if mask.kinds else ())
    return (mask,) if isinstance(mask, Path) else ()


def read_mask(mask: Mask) -> np.ndarray:
    """Decode a mask.

    Returns:
        ``(H, W)`` bool, True on defect pixels; of layers and outlines their union.

    Raises:
        ImageError: it is unreadable, truncated or too large, or its parts differ in size.
    """
    if isinstance(mask, Path):
        return decode_mask(mask)
    if isinstance(mask, Shapes):
        return _draw(mask)
    layers = [decode_mask(path) for path in mask.paths]
    if len({layer.shape for layer in layers}) > 1:
        raise ImageError(str(mask.paths[0].parent), "mask size", "its layers differ in size; all must have the image's size")
    union: np.ndarray = np.any(layers, axis=0)
    return union


def _draw(shapes: Shapes) -> np.ndarray:
    try:
        polygons.refuse_large(shapes.width, shapes.height)
        drawn = np.zeros((shapes.height, shapes.width), dtype=bool)
        for text in shapes.segmentations:
            drawn |= polygons.draw(json.loads(text), shapes.width, shapes.height)
    except ValueError as error:
        raise ImageError("segmentation", "unreadable", f"cannot be drawn: {one_line(error)}; export it again") from error
    return drawn


def resize_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """Stretch ``(H, W)`` labels to ``(size, size)`` without blending, type uint8: each pixel gets the label at its middle."""
    rows, columns = (_source(size, side) for side in labels.shape)
    stretched: np.ndarray = labels[np.ix_(rows, columns)].astype(np.uint8)
    return stretched


def _source(pixels: int, blocks: int) -> np.ndarray:
    """Block that the middle of each pixel lies in, in whole numbers: rounding must not move the edges of blocks."""
    return (2 * np.arange(pixels) + 1) * blocks // (2 * pixels)


def read_blocks(path: Path) -> np.ndarray:
    """Read a block grid: a small grey image, dark (below 64) for normal, bright (from 192) for anomalous, else unknown.

    Returns:
        ``(rows, columns)`` uint8 of NORMAL, ANOMALOUS and UNKNOWN.

    Raises:
        ImageError: it is unreadable.
    """
    grey = np.asarray(decode(path).convert("L"))
    return np.select([grey < 64, grey >= 192], [NORMAL, ANOMALOUS], UNKNOWN).astype(np.uint8)


def mask_to_boxes(mask: np.ndarray, min_area: int = MIN_BOX_AREA) -> list[Box]:
    """Axis-parallel boxes of the 8-connected regions of a mask ``(H, W)`` that have at least ``min_area`` pixels."""
    regions, _ = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    areas = np.bincount(regions.ravel())
    return [
        Box(columns.start, rows.start, columns.stop, rows.stop)
        for number, (rows, columns) in enumerate(ndimage.find_objects(regions), 1)
        if areas[number] >= min_area
    ]


def boxes_to_mask(boxes: Iterable[Box], shape: tuple[int, int]) -> np.ndarray:
    """``(H, W)`` bool, True on every pixel that a box touches; boxes are in pixels of this shape."""
    covered = np.zeros(shape, dtype=bool)
    for box in boxes:
        left, top, right, bottom = (max(0, int(edge)) for edge in (*np.floor(box[:2]), *np.ceil(box[2:])))
        covered[top:bottom, left:right] = True
    return covered


def mask_to_blocks(
    mask: np.ndarray, grid: tuple[int, int], anomalous: float = BLOCK_ANOMALOUS, normal: float = BLOCK_NORMAL
) -> np.ndarray:
    """Blocks of a mask, by the share of their pixels that are defective (SemiREST).

    Args:
        mask: ``(H, W)`` bool.
        grid: rows and columns of blocks, at most H and W.
        anomalous: least share of an anomalous block, ε+.
        normal: largest share of a normal block, ε−, below ``anomalous``.

    Returns:
        ``grid`` uint8 of NORMAL, ANOMALOUS and, between the two shares, UNKNOWN.

    Raises:
        ValueError: shares out of order, or more blocks than pixels.
    """
    if not 0 <= normal < anomalous <= 1:
        raise ValueError(
            f"shares of normal and anomalous blocks: got {normal} and {anomalous}, need 0 <= normal < anomalous <= 1"
        )
    share = _block_means(mask, grid)
    return np.select([share >= anomalous, share <= normal], [ANOMALOUS, NORMAL], UNKNOWN).astype(np.uint8)


def boxes_to_blocks(boxes: Iterable[Box], shape: tuple[int, int], grid: tuple[int, int], free: float = BLOCK_FREE) -> np.ndarray:
    """Blocks of boxes: NORMAL where at least the share ``free`` lies outside all of them, else UNKNOWN, never ANOMALOUS.

    Args:
        boxes: in pixels of ``shape``.
        shape: height and width of the image.
        grid: rows and columns of blocks, at most height and width.
        free: in (0, 1].
    """
    covered = _block_means(boxes_to_mask(boxes, shape), grid)
    return np.where(covered <= 1 - free + 1e-9, NORMAL, UNKNOWN).astype(np.uint8)


def _block_means(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Mean of each block; where the grid does not divide the image, blocks differ by one pixel, as :func:`resize_labels` does."""
    if not (1 <= grid[0] <= mask.shape[0] and 1 <= grid[1] <= mask.shape[1]):
        raise ValueError(
            f"grid: got {grid[0]} x {grid[1]} blocks for {mask.shape[0]} x {mask.shape[1]} pixels; need 1 to that many"
        )
    rows, columns = (
        np.searchsorted(_source(side, blocks), np.arange(blocks)) for side, blocks in zip(mask.shape, grid, strict=True)
    )
    sums = np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.float64), columns, axis=1)
    areas = np.outer(np.diff(np.append(rows, mask.shape[0])), np.diff(np.append(columns, mask.shape[1])))
    means: np.ndarray = sums / areas
    return means


def coarser(one: LabelDetail, other: LabelDetail) -> LabelDetail:
    """The one of two levels that says less.

    >>> coarser("full", "boxes")
    'boxes'
    """
    return max(one, other, key=get_args(LabelDetail).index)


def coarsen(labels: np.ndarray, level: LabelDetail, block: int) -> np.ndarray:
    """What is left of pixel labels when only coarser ones had been drawn.

    Args:
        labels: ``(S, S)`` uint8 of an anomalous image.
        level: ``blocks`` keeps blocks of ``block`` pixels, ``boxes`` that no defect lies outside the boxes of its regions,
            ``image`` nothing; ``full`` and ``masks`` keep everything.
        block: side of a block in pixels, at most S.

    Returns:
        ``(S, S)`` uint8. What was unknown stays unknown.
    """
    if level in ("full", "masks"):
        return labels
    if level == "image":
        return np.full_like(labels, UNKNOWN)
    unknown = labels == UNKNOWN
    if level == "boxes":
        open_ = boxes_to_mask(mask_to_boxes(labels == ANOMALOUS, min_area=1), (len(labels), len(labels)))
        return np.where(open_ | unknown, UNKNOWN, NORMAL).astype(np.uint8)
    rows = max(1, len(labels) // block)
    coarse = resize_labels(mask_to_blocks(labels == ANOMALOUS, (rows, rows)), len(labels))
    return np.where(unknown, UNKNOWN, coarse).astype(np.uint8)
