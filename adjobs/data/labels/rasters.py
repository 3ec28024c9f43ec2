"""Ellipses, traced polygons with holes, and small bitmaps inside an image, as run-length codes in COCO's form."""

from __future__ import annotations

import base64
import io
import math
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from adjobs.data.image_file import MAX_PIXELS
from adjobs.data.labels import polygons
from adjobs.errors import one_line

_PNG = b"\x89PNG"

_MAX_BITMAP_BYTES = MAX_PIXELS // 8
"""Of a bitmap's PNG file: one bit per pixel of the largest image, uncompressed."""


TracedPolygon = tuple[list[float], list[list[float]]]
"""A polygon ``[x0, y0, x1, y1, …]``, and the polygons of its holes."""


def encode_ellipse(
    centre: tuple[float, float], radii: tuple[float, float], radians: float, size: tuple[int, int]
) -> dict[str, Any]:
    """Run-length code of the pixels whose centres lie in an ellipse.

    Args:
        centre: x and y in pixels.
        radii: along the ellipse's own x and y axes, in pixels.
        radians: by which it is turned, clockwise on the screen (y points down).
        size: width and height of the image.

    Raises:
        ValueError: a number is not usable, a radius is not positive, or no pixel is inside.
    """
    numbers = [*centre, *radii, radians]
    if not polygons.are_coordinates(numbers):
        raise ValueError(f"ellipse is {repr(numbers)[:60]}; expected centre, radii and angle as numbers")
    if not min(radii) > 0:
        raise ValueError(f"ellipse has the radii {radii[0]:g} and {radii[1]:g}; they must be positive")
    cos, sin = math.cos(radians), math.sin(radians)
    half_width, half_height = math.hypot(radii[0] * cos, radii[1] * sin), math.hypot(radii[0] * sin, radii[1] * cos)
    left, right = _clip(centre[0] - half_width, centre[0] + half_width, size[0])
    top, bottom = _clip(centre[1] - half_height, centre[1] + half_height, size[1])
    y, x = np.ogrid[top:bottom, left:right]
    x, y = x + 0.5 - centre[0], y + 0.5 - centre[1]
    inside = ((x * cos + y * sin) / radii[0]) ** 2 + ((y * cos - x * sin) / radii[1]) ** 2 <= 1
    return encode_bitmap(inside, left, top, size)


def turned_box(left: float, top: float, right: float, bottom: float, radians: float) -> list[float]:
    """The upright box around a box that is turned about its centre: left, top, right, bottom.

    >>> turned_box(0, 2, 10, 4, math.pi / 2)
    [4.0, -2.0, 6.0, 8.0]
    """
    x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    cos, sin = abs(math.cos(radians)), abs(math.sin(radians))
    half_width, half_height = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return [round(edge, 6) for edge in (x - half_width, y - half_height, x + half_width, y + half_height)]


def encode_traced(traced: Iterable[TracedPolygon], size: tuple[int, int]) -> dict[str, Any]:
    """Run-length code of polygons through the centres of their outermost pixels, which belong to them, without their holes.

    Tools that trace masks place the outline of a hole on the pixels around it, so these are not part of the hole.

    Args:
        traced: polygons and their holes; pixel (0, 0) has its centre at (0, 0).
        size: width and height of the image.

    Raises:
        ValueError: a polygon cannot be drawn, see :func:`adjobs.data.labels.polygons.check`, or no pixel is inside.
    """
    polygons.refuse_large(*size)
    mask = np.zeros((size[1], size[0]), dtype=bool)
    for outline, holes in traced:
        polygons.check([outline, *holes], *size)
        filled, cut = Image.new("1", size), Image.new("1", size)
        ImageDraw.Draw(filled).polygon(_points(outline), fill=1, outline=1)
        for points in map(_points, holes):
            ImageDraw.Draw(cut).polygon(points, fill=1)
            ImageDraw.Draw(cut).line([*points, points[0]], fill=0)
        mask |= np.asarray(filled) & ~np.asarray(cut)
    return encode_bitmap(mask, 0, 0, size)


def encode_bitmap(bitmap: np.ndarray, left: int, top: int, size: tuple[int, int]) -> dict[str, Any]:
    """Run-length code of an image of this width and height that is False outside a bitmap.

    Args:
        bitmap: ``(h, w)`` bool.
        left: column of the bitmap's left edge in the image.
        top: row of its upper edge.
        size: width and height of the image.

    Raises:
        ValueError: the bitmap is empty or not inside the image.
    """
    polygons.refuse_large(*size)
    height, width = bitmap.shape
    if left < 0 or top < 0 or left + width > size[0] or top + height > size[1]:
        raise ValueError(
            f"bitmap of {width} x {height} pixels at ({left}, {top}) is not inside the image of {size[0]} x {size[1]} pixels"
        )
    if not bitmap.any():
        raise ValueError("bitmap has no pixels")
    mask = np.zeros((size[1], size[0]), dtype=bool)
    mask[top : top + height, left : left + width] = bitmap
    return polygons.encode(mask)


def decode_runs(lengths: list[int], width: int, height: int) -> np.ndarray:
    """``(height, width)`` bool of run lengths row by row, alternating between pixels outside and inside.

    Raises:
        ValueError: the lengths do not add up.
    """
    polygons.refuse_large(width, height)
    if width <= 0 or height <= 0 or min(lengths, default=-1) < 0 or sum(lengths) != width * height:
        raise ValueError(f"run lengths are {repr(lengths)[:40]}; they must add up to the {width} x {height} pixels of the mask")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)


def decode_png(text: str) -> np.ndarray:
    """``(h, w)`` bool of a PNG file in base64, also compressed by zlib: pixels that are not 0, or not transparent.

    Raises:
        ValueError: it is not such a file, or it is too large.
    """
    try:
        data = base64.b64decode(text, validate=True)
        data = data if data.startswith(_PNG) else _decompress(data)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            polygons.refuse_large(*image.size)
            pixels = np.asarray(image.getchannel("A") if "A" in image.getbands() else image)
    except (OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"bitmap cannot be decoded ({one_line(error)}); expected a PNG file in base64") from error
    return np.asarray(pixels != 0 if pixels.ndim == 2 else pixels.any(axis=2))


def _decompress(data: bytes) -> bytes:
    """Undo zlib's compression, which can make a few bytes into any number."""
    decompressor = zlib.decompressobj()
    result = decompressor.decompress(data, _MAX_BITMAP_BYTES)
    if decompressor.unconsumed_tail:
        raise ValueError(f"it has more than {_MAX_BITMAP_BYTES:,} bytes when decompressed")
    return result


def _points(polygon: list[float]) -> list[tuple[int, int]]:
    return [(round(x), round(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]


def _clip(start: float, end: float, side: int) -> tuple[int, int]:
    """First and last but one pixel that an interval touches in an image."""
    first, last = max(0, math.floor(start)), min(side, math.ceil(end))
    if first >= last:
        raise ValueError("ellipse does not overlap the image")
    return first, last
