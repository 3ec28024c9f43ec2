"""Pixel labels of defects: masks, outlines, block grids and boxes, and conversions between them.

Coarser labels are cheaper to draw (SemiREST, Li et al. 2023): a mask labels every pixel, a block grid labels blocks of pixels,
and boxes only say that pixels outside them are normal. Pixels that a label leaves undecided are ``UNKNOWN``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy import ndimage

from adjobs.data.images import ImageError, decode
from adjobs.data.labels import polygons
from adjobs.data.labels.mask_values import MaskValues, decode_mask
from adjobs.errors import one_line

NORMAL, ANOMALOUS, UNKNOWN = 0, 1, 2

LabelDetail = Literal["full", "masks", "blocks", "boxes", "image"]
"""How detailed the labels of the training split are: as annotated, or coarsened to this level."""

BLOCK_ANOMALOUS, BLOCK_NORMAL = 0.25, 0.08
"""Fractions of defect pixels from which a block is anomalous, and up to which it is normal (SemiREST, supervised: ε+ and ε−)."""

BLOCK_FREE = 0.9
"""Fraction of a block that must lie outside all boxes for it to be normal (code of SemiREST's predecessor)."""

MIN_BOX_AREA = 11
"""Pixels of the smallest region that gets a box: up to ten are slips of the brush (code of SemiREST's predecessor)."""

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
        paths: one or more mask images of the image's size, not 0 on the defect's pixels.
        kinds: JSON file with the kind of defect of each pixel value and when a defect counts as fully detected
            (``pixel_value``, ``saturation_threshold``, ``relative_saturation``).
    """

    paths: tuple[Path, ...]
    kinds: Path | None = None


@dataclass(frozen=True)
class Shapes:
    """A mask in COCO's form.

    Attributes:
        segmentations: JSON texts, each a list of polygons ``[x0, y0, x1, y1, …]`` or a run-length
            code ``{"size", "counts"}``, see :mod:`adjobs.data.labels.polygons`.
        width: image width in pixels.
        height: image height in pixels.
    """

    segmentations: tuple[str, ...]
    width: int
    height: int


Mask = Path | Layers | Shapes


def mask_files(mask: Mask | None) -> tuple[Path, ...]:
    """The files that a mask is read from."""
    if isinstance(mask, Layers):
        return mask.paths + ((mask.kinds,) if mask.kinds else ())
    return (mask,) if isinstance(mask, Path) else ()


def read_mask(mask: Mask) -> np.ndarray:
    """Decode a mask.

    Returns:
        ``(H, W)`` bool, True on defect pixels; layers and outlines are united.

    Raises:
        ImageError: the mask is unreadable, truncated or too large, or its layers differ in size.
    """
    return read_mask_details(mask)[0]


def read_mask_details(mask: Mask) -> tuple[np.ndarray, tuple[MaskValues, ...]]:
    """Like :func:`read_mask`, with each mask image as it was read; none for outlines."""
    if isinstance(mask, Shapes):
        return _draw(mask), ()
    layers = tuple(decode_mask(path) for path in (mask.paths if isinstance(mask, Layers) else (mask,)))
    if len({layer.defect.shape for layer in layers}) > 1:
        path = mask.paths[0] if isinstance(mask, Layers) else mask
        raise ImageError(str(path.parent), "mask size", "its layers differ in size; all must have the size of the image")
    union: np.ndarray = np.any([layer.defect for layer in layers], axis=0) if len(layers) > 1 else layers[0].defect
    return union, layers


def _draw(shapes: Shapes) -> np.ndarray:
    try:
        polygons.refuse_large(shapes.width, shapes.height)
        mask = np.zeros((shapes.height, shapes.width), dtype=bool)
        for text in shapes.segmentations:
            mask |= polygons.draw(json.loads(text), shapes.width, shapes.height)
    except ValueError as error:
        raise ImageError("segmentation", "unreadable", f"cannot be drawn: {one_line(error)}; export it again") from error
    return mask


def resize_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """Stretch ``(H, W)`` labels to ``(size, size)`` uint8 without interpolation: each pixel gets the label at its centre."""
    rows, columns = (_source(size, side) for side in labels.shape)
    stretched: np.ndarray = labels[np.ix_(rows, columns)].astype(np.uint8)
    return stretched


def _source(pixels: int, blocks: int) -> np.ndarray:
    """Block of each pixel's centre, in integers: rounding errors must not move the edges of blocks."""
    return (2 * np.arange(pixels) + 1) * blocks // (2 * pixels)


def read_blocks(path: Path) -> np.ndarray:
    """Read a block grid: a small grey image, dark (below 64) for normal, bright (from 192) for anomalous, else unknown.

    Returns:
        ``(rows, columns)`` uint8 of NORMAL, ANOMALOUS and UNKNOWN.

    Raises:
        ImageError: the image is unreadable.
    """
    grey = np.asarray(decode(path).convert("L"))
    return np.select([grey < 64, grey >= 192], [NORMAL, ANOMALOUS], UNKNOWN).astype(np.uint8)


def mask_to_boxes(mask: np.ndarray, min_area: int = MIN_BOX_AREA) -> list[Box]:
    """Bounding boxes of the 8-connected regions of a mask ``(H, W)`` with at least ``min_area`` pixels."""
    regions, _ = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    areas = np.bincount(regions.ravel())
    return [
        Box(columns.start, rows.start, columns.stop, rows.stop)
        for number, (rows, columns) in enumerate(ndimage.find_objects(regions), 1)
        if areas[number] >= min_area
    ]


def boxes_to_mask(boxes: Iterable[Box], shape: tuple[int, int]) -> np.ndarray:
    """``(H, W)`` bool, True on every pixel that a box touches; boxes are in pixels of ``shape``."""
    covered = np.zeros(shape, dtype=bool)
    for box in boxes:
        left, top, right, bottom = (max(0, int(edge)) for edge in (*np.floor(box[:2]), *np.ceil(box[2:])))
        covered[top:bottom, left:right] = True
    return covered


def mask_to_blocks(
    mask: np.ndarray, grid: tuple[int, int], anomalous: float = BLOCK_ANOMALOUS, normal: float = BLOCK_NORMAL
) -> np.ndarray:
    """Label blocks of a mask by their fraction of defect pixels (SemiREST).

    Args:
        mask: ``(H, W)`` bool.
        grid: rows and columns of blocks, at most H and W.
        anomalous: smallest fraction of an anomalous block, ε+.
        normal: largest fraction of a normal block, ε−, below ``anomalous``.

    Returns:
        ``grid`` uint8 of NORMAL, ANOMALOUS and, between the two fractions, UNKNOWN.

    Raises:
        ValueError: the fractions are out of order, or there are more blocks than pixels.
    """
    if not 0 <= normal < anomalous <= 1:
        raise ValueError(
            f"fractions of normal and anomalous blocks are {normal} and {anomalous}; they must be 0 <= normal < anomalous <= 1"
        )
    fraction = _block_means(mask, grid)
    return np.select([fraction >= anomalous, fraction <= normal], [ANOMALOUS, NORMAL], UNKNOWN).astype(np.uint8)


def boxes_to_blocks(boxes: Iterable[Box], shape: tuple[int, int], grid: tuple[int, int], free: float = BLOCK_FREE) -> np.ndarray:
    """Label blocks by boxes: NORMAL if at least the fraction ``free`` lies outside all boxes, else UNKNOWN, never ANOMALOUS.

    Args:
        boxes: in pixels of ``shape``.
        shape: height and width of the image.
        grid: rows and columns of blocks, at most height and width.
        free: fraction in (0, 1].
    """
    covered = _block_means(boxes_to_mask(boxes, shape), grid)
    return np.where(covered <= 1 - free + 1e-9, NORMAL, UNKNOWN).astype(np.uint8)


def _block_means(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Mean of each block; block sizes differ by one pixel if need be, as in :func:`resize_labels`."""
    if not (1 <= grid[0] <= mask.shape[0] and 1 <= grid[1] <= mask.shape[1]):
        raise ValueError(
            f"grid is {grid[0]} x {grid[1]} blocks for {mask.shape[0]} x {mask.shape[1]} pixels; use at most one block per pixel"
        )
    rows, columns = (
        np.searchsorted(_source(side, blocks), np.arange(blocks)) for side, blocks in zip(mask.shape, grid, strict=True)
    )
    sums = np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.float64), columns, axis=1)
    areas = np.outer(np.diff(np.append(rows, mask.shape[0])), np.diff(np.append(columns, mask.shape[1])))
    means: np.ndarray = sums / areas
    return means


def coarser(first: LabelDetail, second: LabelDetail) -> LabelDetail:
    """The less detailed of two levels.

    >>> coarser("full", "boxes")
    'boxes'
    """
    return max(first, second, key=get_args(LabelDetail).index)


def coarsen(labels: np.ndarray, level: LabelDetail, block: int) -> np.ndarray:
    """Reduce pixel labels to what a coarser annotation would have said.

    Args:
        labels: ``(S, S)`` uint8 of an anomalous image.
        level: ``blocks`` labels blocks of ``block`` pixels, ``boxes`` says only that pixels outside the regions' bounding boxes
            are normal, ``image`` says nothing about pixels; ``full`` and ``masks`` change nothing.
        block: side of a block in pixels, at most S.

    Returns:
        ``(S, S)`` uint8. Unknown pixels stay unknown.
    """
    if level in ("full", "masks"):
        return labels
    if level == "image":
        return np.full_like(labels, UNKNOWN)
    unknown = labels == UNKNOWN
    if level == "boxes":
        in_boxes = boxes_to_mask(mask_to_boxes(labels == ANOMALOUS, min_area=1), (len(labels), len(labels)))
        return np.where(in_boxes | unknown, UNKNOWN, NORMAL).astype(np.uint8)
    rows = max(1, len(labels) // block)
    coarse = resize_labels(mask_to_blocks(labels == ANOMALOUS, (rows, rows)), len(labels))
    return np.where(unknown, UNKNOWN, coarse).astype(np.uint8)
