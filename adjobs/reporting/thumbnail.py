"""An image of a data set with its labels drawn on it, exactly as training reads both."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from adjobs.data.dataset import Sample
from adjobs.data.image_reading import ImageReading
from adjobs.data.images import ImageError, decode
from adjobs.data.labels.masks import ANOMALOUS, UNKNOWN, Box, read_blocks, read_mask
from adjobs.errors import DataError

MASK, BOX, UNKNOWN_BLOCK = (0, 190, 255), (255, 176, 0), (255, 0, 160)
"""Colours of defect pixels and anomalous blocks, of boxes, and of blocks whose label is unknown."""

_DARK = (0, 0, 0)
_TINT = 0.22  # opacity of the colour over defect pixels, so that an inverted mask differs from a correct one
_LINE = 2  # pixels of an outline
_STRIPE = 6  # pixels from stripe to stripe on unknown blocks
_MAX_ENLARGEMENT = 12.0  # of tiny images


class Thumbnail(NamedTuple):
    """A drawn sample.

    Attributes:
        image: RGB with the labels on it; None if the image cannot be decoded.
        size: width and height of the decoded image; None likewise.
        coverage: share of the pixels that the mask marks; None without a mask that fits.
        reason: why there is no image; "" if there is one.
    """

    image: Image.Image | None
    size: tuple[int, int] | None = None
    coverage: float | None = None
    reason: str = ""


def draw_thumbnail(sample: Sample, reading: ImageReading, side: int) -> Thumbnail:
    """Draw an image with its mask, block grid and boxes.

    Labels that cannot be read, or that are not of the image's size, are left out; the check of the sample reports them.

    Args:
        sample: what to draw.
        reading: how more than 8 bits become 8.
        side: of the longer side, in pixels; tiny images stay smaller.
    """
    try:
        image = decode(sample.image, reading)
    except ImageError as error:
        return Thumbnail(None, reason=error.reason)
    except DataError as error:
        return Thumbnail(None, reason=str(error))
    scale = min(side / max(image.size), _MAX_ENLARGEMENT)
    width, height = (max(1, round(edge * scale)) for edge in image.size)
    resample = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    pixels = np.array(image.convert("RGB").resize((width, height), resample))
    coverage = None
    with suppress(DataError):
        if sample.blocks is not None:
            _draw_blocks(pixels, read_blocks(sample.blocks))
    with suppress(DataError):
        mask = None if sample.mask is None else read_mask(sample.mask)
        if mask is not None and mask.shape == (image.height, image.width):
            coverage = float(mask.mean())
            _draw_region(pixels, _shrink(mask, (height, width)))
    drawn = Image.fromarray(pixels)
    for box in sample.boxes or ():
        _draw_box(drawn, box, width / image.width, height / image.height)
    return Thumbnail(drawn, image.size, coverage)


def _shrink(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask at another size; a pixel is True if any of those that it stands for is, so that scratches survive."""
    for axis, length in enumerate(shape):
        if length < mask.shape[axis]:
            starts = np.arange(length) * mask.shape[axis] // length
            mask = np.logical_or.reduceat(mask, starts, axis=axis)
        else:
            mask = mask.take(_nearest(length, mask.shape[axis]), axis=axis)
    return mask


def _nearest(length: int, cells: int) -> np.ndarray:
    """The cell of each of ``length`` pixels."""
    return (2 * np.arange(length) + 1) * cells // (2 * length)


def _draw_region(pixels: np.ndarray, inside: np.ndarray) -> None:
    """Tint a region and draw a light line on a dark one around it, and along the image's border where it reaches that."""
    if not inside.any():
        return
    pixels[inside] = ((1 - _TINT) * pixels[inside] + _TINT * np.array(MASK)).astype(np.uint8)
    line = ndimage.binary_dilation(inside, iterations=_LINE) & ~inside
    dark = ndimage.binary_dilation(inside, iterations=_LINE + 1) & ~inside & ~line
    border = np.ones_like(inside)
    border[_LINE:-_LINE, _LINE:-_LINE] = False
    pixels[dark] = _DARK
    pixels[line | (inside & border)] = MASK


def _draw_blocks(pixels: np.ndarray, blocks: np.ndarray) -> None:
    """Draw anomalous blocks like a mask, and stripes over unknown ones."""
    height, width = pixels.shape[:2]
    labels = blocks[np.ix_(_nearest(height, blocks.shape[0]), _nearest(width, blocks.shape[1]))]
    y, x = np.mgrid[:height, :width]
    pixels[(labels == UNKNOWN) & ((x + y) % _STRIPE == 0)] = UNKNOWN_BLOCK
    _draw_region(pixels, labels == ANOMALOUS)


def _draw_box(image: Image.Image, box: Box, x_scale: float, y_scale: float) -> None:
    """Draw a light rectangle on a dark one, outside the box."""
    left, top, right, bottom = box.left * x_scale, box.top * y_scale, box.right * x_scale - 1, box.bottom * y_scale - 1
    drawing = ImageDraw.Draw(image)
    for margin, thickness, colour in ((_LINE + 1, 1, _DARK), (_LINE, _LINE, BOX)):
        edges = (left - margin, top - margin, max(right, left) + margin, max(bottom, top) + margin)
        drawing.rectangle(edges, outline=colour, width=thickness)
