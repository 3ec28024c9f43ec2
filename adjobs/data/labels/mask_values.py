"""Which pixels of a mask image are defect: all that are not background, or those above half where the edges are smoothed.

Annotation tools write masks in two ways. Some number or colour the classes: each value but 0 is a defect, and each fills areas.
Others write black and white, later scaled, turned or compressed: values in between lie on the edges only, from which they rise
to the inside, or are noise. Which it is can be seen in each mask by itself, so all readers agree without being informed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from adjobs.data.image_file import decoding_errors, source_name
from adjobs.data.pixels import Pixels, read_pixels

MASK_RULE = "labels-2"
"""Identifies what :func:`decode_mask` does; change it with the function, since caches store its results."""

_FEW, _SMALL = 16, 127
"""With at most so many values, none of them larger, a mask is of numbered classes."""

_NOISE = 8
"""Largest value of single pixels that is taken for noise where there is only one value below half."""

_MAX_EXAMINED = 20_000
"""About how many pixels are examined at most, in rows spread evenly, of those that are neither 0 nor above half."""

_NEIGHBOURS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]


Rule = Literal["binary", "classes", "half"]


class MaskValues(NamedTuple):
    """A mask as it is read.

    Attributes:
        defect: ``(H, W)`` bool.
        values: number of different values, 0 included.
        rule: ``binary`` for at most one value but 0; ``classes`` if all but 0 are defects; ``half`` if those above half are.
    """

    defect: np.ndarray
    values: int
    rule: Rule


def decode_mask(source: Path | bytes) -> MaskValues:
    """Decode a mask image upright, of any colours and bits; transparent pixels are background.

    Raises:
        ImageError: the mask is unreadable, truncated or too large.
    """
    with decoding_errors(source_name(source)):
        return interpret(_grey_values(read_pixels(source)))


def _grey_values(pixels: Pixels) -> np.ndarray:
    """``(H, W)`` numbers, 0 where the mask is black or transparent."""
    if pixels.values is not None:
        values = pixels.values.max(axis=2) if pixels.values.ndim == 3 else pixels.values
        values = 2**pixels.bits - 1 - values if pixels.white_is_zero else np.maximum(values, 0)
        return values if pixels.alpha is None else np.where(pixels.alpha, values, 0)
    assert pixels.image is not None
    if pixels.image.mode in ("1", "L"):
        return np.asarray(pixels.image)
    rgba = np.asarray(pixels.image.convert("RGBA"))
    return with_alpha(rgba[..., :3].max(axis=2), rgba[..., 3])


def interpret(values: np.ndarray) -> MaskValues:
    """Find the defect pixels of a mask.

    Args:
        values: ``(H, W)``, any type of number, not negative; 0 is background.
    """
    if values.dtype == bool:
        values = values.view(np.uint8)
    largest = values.max()
    is_marked = values > 0
    if largest == 0 or (is_marked == (values == largest)).all():
        return MaskValues(is_marked, int(largest > 0) + int(not is_marked.all()), "binary")
    half = largest / 2 if values.dtype.kind == "f" else largest // 2  # of the values' own type, which is faster
    count = _count_values(values)
    is_low = is_marked & (values <= half)
    if not is_low.any() or (largest <= _SMALL and count <= _FEW) or _fills_areas(values, is_low, count):
        return MaskValues(is_marked, count, "classes" if is_low.any() else "half")
    return MaskValues(values > half, count, "half")


def _count_values(values: np.ndarray) -> int:
    if values.dtype == np.uint8:  # many times faster than sorting
        return sum(count > 0 for count in Image.fromarray(values).histogram())
    return len(np.unique(values))


def with_alpha(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Values of a mask of which parts are transparent: these are background; black on transparent ground is a defect.

    Args:
        colours: ``(H, W)`` uint8, the brightest channel.
        alpha: ``(H, W)`` uint8, 0 where the image is transparent.
    """
    is_black = not colours[alpha > 0].any() and not alpha.all()
    return alpha if is_black else np.minimum(colours, alpha)


def _fills_areas(values: np.ndarray, is_low: np.ndarray, count: int) -> bool:
    """Whether the values below half are areas of their own, not edges of brighter ones or noise."""
    step = 1 + int(np.count_nonzero(is_low)) // _MAX_EXAMINED
    if not is_low[::step].any():  # in few rows
        step = 1
    rows, columns = np.nonzero(is_low[::step])
    rows *= step
    height, width = values.shape
    own = values[rows, columns]
    around = np.stack(
        [values[np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)] for down, right in _NEIGHBOURS]
    )
    is_slope = (around > own).any(axis=0) & (around < own).any(axis=0)
    if is_slope.mean() >= 0.5:
        return False
    # Noise of compression does not repeat a value beside itself.
    repeats = (around == own).sum(axis=0) >= 2
    _, number = np.unique(own, return_inverse=True)
    shares = np.bincount(number, repeats) / np.bincount(number)
    return bool((shares >= 0.5).mean() > 0.5) or bool(count <= 3 and own[0] > _NOISE)
