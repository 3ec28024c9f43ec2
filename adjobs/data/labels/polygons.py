"""Segmentations in COCO's form, polygons and run-length codes: validation, drawing and bounding boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

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
        refuse_large(width, height)
        return _bounds_of_runs(_lengths(segmentation, width, height), height)
    check(segmentation, width, height)
    x, y = (np.concatenate([polygon[offset::2] for polygon in segmentation]) for offset in (0, 1))
    left, right = (float(edge) for edge in np.clip([x.min(), x.max()], 0, width))
    top, bottom = (float(edge) for edge in np.clip([y.min(), y.max()], 0, height))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _bounds_of_runs(lengths: list[int], height: int) -> tuple[int, int, int, int] | None:
    ends = np.cumsum(lengths)[1::2]
    starts = ends - np.array(lengths[1::2], dtype=np.int64)
    starts, last = starts[starts < ends], ends[starts < ends] - 1
    if not len(starts):
        return None
    left, right = int(starts[0]) // height, int(last[-1]) // height + 1
    is_across = starts // height < last // height  # a run that goes on in the next column
    top = 0 if is_across.any() else int((starts % height).min())
    bottom = height if is_across.any() else int((last % height).max()) + 1
    return left, top, right, bottom


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Run-length code of a mask ``(H, W)`` bool, JSON-serialisable."""
    from pycocotools import mask as coco

    return _to_json(coco.encode(np.asfortranarray(mask, dtype=np.uint8)))


def run_through_centres(polygons: Any, box: list[float] | None, area: Any) -> bool:
    """Whether polygons run through the centres of the outermost pixels, as exporters that trace masks write them.

    COCO's own polygons run along the edges of pixels. Of the others, the annotation's box is one pixel wider and higher than
    the polygons, or, without a box, its area is the number of pixels in and under the outlines.

    Args:
        polygons: of an annotation, not checked; one of two points is a line, one of a single point a pixel.
        box: left, top, right and bottom in pixels; None if unknown.
        area: in pixels, not checked; None if unknown.
    """
    if not isinstance(polygons, list) or not polygons or not all(map(_is_lattice_polygon, polygons)):
        return False
    x, y = ([edge for polygon in polygons for edge in polygon[offset::2]] for offset in (0, 1))
    has_area = are_coordinates([area]) and abs(area - sum(map(_covered_pixels, polygons))) < 0.01
    if box is None:
        return has_area
    if not has_area and any(len(polygon) < 6 for polygon in polygons):
        return False
    # Datumaro simplifies the polygon, so that it may keep a pixel more from the edges of the mask's box.
    before = (min(x) - box[0], min(y) - box[1])
    after = (box[2] - max(x), box[3] - max(y))
    return 0 in before and all(gap in (0, 1) for gap in before) and all(gap in (1, 2) for gap in after)


def encode_with_outline(polygons: list[list[float]], width: int, height: int) -> dict[str, Any]:
    """Run-length code of the pixels in polygons through centres of pixels, and of those under the outlines.

    Raises:
        ValueError: a polygon is far outside the image, or all are outside.
    """
    refuse_large(width, height)
    for polygon in polygons:
        _refuse_distant(polygon, width, height)
    x, y = ([int(edge) for polygon in polygons for edge in polygon[offset::2]] for offset in (0, 1))
    left, top, right, bottom = max(min(x), 0), max(min(y), 0), min(max(x), width - 1), min(max(y), height - 1)
    if left > right or top > bottom:
        raise ValueError(f"outline does not overlap the image of {width} x {height} pixels")
    image = Image.new("1", (right - left + 1, bottom - top + 1))
    drawing = ImageDraw.Draw(image)
    for polygon in polygons:
        points = [(int(x) - left, int(y) - top) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
        drawing.polygon(points, fill=1, outline=1) if len(points) > 2 else drawing.line(points * (3 - len(points)), fill=1)
    return _encode_crop(np.asarray(image), left, top, width, height)


def _encode_crop(crop: np.ndarray, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    """Run-length code of an image that is False outside ``crop``, whose upper left corner is at (left, top)."""
    columns = np.zeros((crop.shape[1], crop.shape[0] + 2), dtype=np.int8)
    columns[:, 1:-1] = crop.T
    column, row = np.nonzero(np.diff(columns, axis=1))  # a start and an end for each run
    edges = (column + left) * height + row + top
    # A run that ends at the bottom and one that starts at the top of the next column are one.
    inner = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
    edges = np.delete(edges, np.concatenate([inner, inner + 1]))
    counts = np.diff(np.concatenate([[0], edges, [width * height]]))
    return {"size": [height, width], "counts": [int(count) for count in counts]}


def _is_lattice_polygon(polygon: Any) -> bool:
    return are_coordinates(polygon) and len(polygon) >= 2 and len(polygon) % 2 == 0 and all(edge == int(edge) for edge in polygon)


def _covered_pixels(polygon: list[float]) -> float:
    """Number of pixels whose centres are in or on a polygon through centres (Pick's theorem)."""
    x, y = np.array(polygon[::2], dtype=np.int64), np.array(polygon[1::2], dtype=np.int64)
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    area = abs(int((x * next_y - next_x * y).sum())) / 2
    return area + int(np.gcd(next_x - x, next_y - y).sum()) / 2 + 1


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
    _refuse_distant(polygon, width, height)


def _refuse_distant(polygon: list[float], width: int, height: int) -> None:
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
