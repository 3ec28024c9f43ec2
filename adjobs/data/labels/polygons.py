"""Segmentations as COCO writes them: polygons and run-length codes, checked, drawn and boxed in."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjobs.data.images import MAX_PIXELS


def check(segmentation: Any, width: int, height: int) -> None:
    """Refuse what cannot be drawn: pycocotools takes memory as it finds it for short run-length codes, among others.

    Args:
        segmentation: list of polygons ``[x0, y0, x1, y1, …]``, or run-length code ``{"size": [height, width], "counts"}`` with
            a list of lengths or COCO's text for them.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Raises:
        ValueError: what was got and what is allowed.
    """
    refuse_large(width, height)
    if isinstance(segmentation, dict):
        _lengths(segmentation, width, height)
    elif not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"got {repr(segmentation)[:60]}; allowed are a list of polygons or a run-length code")
    else:
        for polygon in segmentation:
            _check_polygon(polygon, width, height)


def draw(segmentation: Any, width: int, height: int) -> np.ndarray:
    """Pixels of a segmentation, ``(height, width)`` bool; of several polygons their union.

    Raises:
        ValueError: see :func:`check`.
    """
    refuse_large(width, height)
    if isinstance(segmentation, dict):
        lengths = _lengths(segmentation, width, height)
        return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T
    check(segmentation, width, height)
    from pycocotools import mask as coco

    # Not pycocotools' own decoding, which numpy 2 warns of.
    return draw(_json(coco.merge(coco.frPyObjects(segmentation, height, width))), width, height)


def bounds(segmentation: Any, width: int, height: int) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of a segmentation in pixels, inside the image; None where it has no pixel there.

    Raises:
        ValueError: see :func:`check`.
    """
    if isinstance(segmentation, dict):
        y, x = np.nonzero(draw(segmentation, width, height))
        return (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1) if len(x) else None
    check(segmentation, width, height)
    x, y = (np.concatenate([polygon[axis::2] for polygon in segmentation]) for axis in (0, 1))
    left, right = (float(edge) for edge in np.clip([x.min(), x.max()], 0, width))
    top, bottom = (float(edge) for edge in np.clip([y.min(), y.max()], 0, height))
    return (left, top, right, bottom) if left < right and top < bottom else None


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Run-length code of a mask ``(H, W)`` bool, as JSON holds it."""
    from pycocotools import mask as coco

    return _json(coco.encode(np.asfortranarray(mask, dtype=np.uint8)))


def _json(code: Any) -> dict[str, Any]:
    """A code of pycocotools as JSON can hold it."""
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode()}


def are_coordinates(values: Any) -> bool:
    """Whether it is a list of numbers that can be places in an image, so neither endless nor NaN."""
    return isinstance(values, list) and all(type(value) in (int, float) and abs(value) < 1e9 for value in values)


def refuse_large(width: int, height: int) -> None:
    """Refuse the size of an image that could not be read, before memory is taken for its pixels.

    Raises:
        ValueError: what was got and what is allowed.
    """
    if width * height > MAX_PIXELS:
        raise ValueError(f"got an image of {width} x {height} pixels; allowed are {MAX_PIXELS:,} in all")


def _check_polygon(polygon: Any, width: int, height: int) -> None:
    # Shorter lists would be drawn as boxes; points far out would take memory in proportion.
    if not are_coordinates(polygon) or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"got polygon {repr(polygon)[:60]}; allowed are x and y of three or more points in turn")
    for values, side in ((polygon[::2], width), (polygon[1::2], height)):
        if min(values) < -side or max(values) > 2 * side:
            raise ValueError(f"got a polygon from {min(values)} to {max(values)} in an image of {width} x {height} pixels")


def _lengths(code: dict[Any, Any], width: int, height: int) -> list[int]:
    """Lengths of the runs, column by column, of pixels outside and inside in turn."""
    size, counts = code.get("size"), code.get("counts")
    if size != [height, width]:
        raise ValueError(f"got a run-length code of size {size}; allowed is [{height}, {width}], the image's height and width")
    lengths = _unpack(counts) if isinstance(counts, str) else counts
    if isinstance(lengths, list) and all(type(length) is int and length >= 0 for length in lengths):
        whole: list[int] = lengths
        if sum(whole) == width * height:
            return whole
    raise ValueError(f"got run lengths {repr(counts)[:40]}; allowed are lengths that add up to {width * height} pixels")


def _unpack(text: str) -> list[int]:
    """Lengths out of COCO's text for them (``rleFrString`` of its maskApi).

    Characters from '0' on hold five bits each, lowest first, and a sixth that says that more follow. From the fourth on, a
    length is stored as its difference to the one before the last.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64:
            raise ValueError(f"got {character!r} in a run-length code; allowed are the characters from '0' to 'o'")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths
