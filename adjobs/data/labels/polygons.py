"""Segmentations in COCO's form, polygons and run-length codes: validation, drawing and bounding boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjobs.data.images import MAX_PIXELS


def check(segmentation: Any, width: int, height: int) -> None:
    """Refuse segmentations that cannot be drawn; among others, pycocotools reads uninitialised memory for short run-length codes.

    Args:
        segmentation: list of polygons ``[x0, y0, x1, y1, …]``, or run-length code
            ``{"size": [height, width], "counts"}``, where counts is a list of lengths or their text in COCO's encoding.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Raises:
        ValueError: the segmentation or the image size is invalid.
    """
    refuse_large(width, height)
    if isinstance(segmentation, dict):
        _lengths(segmentation, width, height)
    elif not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"segmentation is {repr(segmentation)[:60]}; expected a list of polygons or a run-length code")
    else:
        for polygon in segmentation:
            _check_polygon(polygon, width, height)


def draw(segmentation: Any, width: int, height: int) -> np.ndarray:
    """Pixels of a segmentation, ``(height, width)`` bool; several polygons are united.

    Raises:
        ValueError: see :func:`check`.
    """
    refuse_large(width, height)
    if isinstance(segmentation, dict):
        lengths = _lengths(segmentation, width, height)
        return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T
    check(segmentation, width, height)
    from pycocotools import mask as coco

    # Not decoded by pycocotools, since that raises a deprecation warning with numpy 2.
    return draw(_to_json(coco.merge(coco.frPyObjects(segmentation, height, width))), width, height)


def bounds(segmentation: Any, width: int, height: int) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of a segmentation in pixels, clipped to the image; None if it does not overlap the image.

    Raises:
        ValueError: see :func:`check`.
    """
    if isinstance(segmentation, dict):
        y, x = np.nonzero(draw(segmentation, width, height))
        return (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1) if len(x) else None
    check(segmentation, width, height)
    x, y = (np.concatenate([polygon[offset::2] for polygon in segmentation]) for offset in (0, 1))
    left, right = (float(edge) for edge in np.clip([x.min(), x.max()], 0, width))
    top, bottom = (float(edge) for edge in np.clip([y.min(), y.max()], 0, height))
    return (left, top, right, bottom) if left < right and top < bottom else None


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Run-length code of a mask ``(H, W)`` bool, JSON-serialisable."""
    from pycocotools import mask as coco

    return _to_json(coco.encode(np.asfortranarray(mask, dtype=np.uint8)))


def _to_json(code: Any) -> dict[str, Any]:
    """A run-length code of pycocotools, JSON-serialisable."""
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode()}


def are_coordinates(values: Any) -> bool:
    """Whether it is a list of numbers that can be pixel coordinates: finite and not too large."""
    return isinstance(values, list) and all(type(value) in (int, float) and abs(value) < 1e9 for value in values)


def refuse_large(width: int, height: int) -> None:
    """Refuse an image size that exceeds the limit, before memory is allocated for its pixels.

    Raises:
        ValueError: the size is too large.
    """
    if width * height > MAX_PIXELS:
        raise ValueError(f"image size is {width} x {height} pixels; at most {MAX_PIXELS:,} pixels are allowed")


def _check_polygon(polygon: Any, width: int, height: int) -> None:
    # Shorter lists would be drawn as boxes; the memory for distant points grows with their distance.
    if not are_coordinates(polygon) or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"polygon is {repr(polygon)[:60]}; expected x, y, x, y, … of three or more points")
    for values, side in ((polygon[::2], width), (polygon[1::2], height)):
        if min(values) < -side or max(values) > 2 * side:
            raise ValueError(f"polygon reaches from {min(values)} to {max(values)} in an image of {width} x {height} pixels")


def _lengths(code: dict[Any, Any], width: int, height: int) -> list[int]:
    """Run lengths, column by column, alternating between pixels outside and inside."""
    size, counts = code.get("size"), code.get("counts")
    if size != [height, width]:
        raise ValueError(f"run-length code has size {size}; expected [{height}, {width}], the height and width of the image")
    lengths = _unpack(counts) if isinstance(counts, str) else counts
    if isinstance(lengths, list) and all(type(length) is int and length >= 0 for length in lengths):
        run_lengths: list[int] = lengths
        if sum(run_lengths) == width * height:
            return run_lengths
    raise ValueError(f"run lengths are {repr(counts)[:40]}; they must add up to {width * height} pixels")


def _unpack(text: str) -> list[int]:
    """Decode run lengths from COCO's text (``rleFrString`` of its maskApi).

    Characters from '0' hold five bits each, lowest first, and a sixth bit that is set if more follow. From the fourth length
    on, the difference to the length before the previous one is stored.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64:
            raise ValueError(f"run-length code contains {character!r}; allowed are the characters from '0' to 'o'")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths
