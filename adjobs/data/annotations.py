"""What an annotation file says about one image, turned into a sample: its label, defect type, and mask or boxes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from adjobs.data.dataset import Label, Sample
from adjobs.data.images import ImageError, image_size, refuse_other_size
from adjobs.data.labels import polygons
from adjobs.data.labels.masks import Box, Shapes
from adjobs.data.reading import ReadContext, simplify
from adjobs.data.walk import clean_defect_type
from adjobs.errors import one_line, shorten

_UNTYPED = frozenset({"bad", "ng", "nio", "notok", "anomalous", "anomaly", "abnormal", "defect", "defective", "fail", "failed"})
"""Names that say that there is a defect, but not of which type; compared by :func:`adjobs.data.reading.simplify`."""

INVALID = "annotation"
"""Kind of the problems of annotations that cannot be used."""


Result = TypeVar("Result")


class Region(NamedTuple):
    """One annotated defect.

    Attributes:
        name: its class.
        box: in pixels, inside the image.
        area: in pixels.
        segmentation: polygons or run-length code as in :mod:`adjobs.data.labels.polygons`; None if only the box is known.
        redrawn: whether the outline ran through the centres of pixels and was drawn again around them.
        note: why the outline that was given is not used; "" if it is, or if none was given.
    """

    name: str
    box: Box
    area: float
    segmentation: Any = None
    redrawn: bool = False
    note: str = ""


class AnnotatedImage:
    """Collects the annotations of one image; what is wrong with them is recorded as problems of its sample.

    Args:
        context: of the reader.
        root: the data set's folder.
        file: the image.
        source: the annotation file's name, for messages.
        size: width and height for which the annotations were drawn; None for the image's own.
    """

    def __init__(self, context: ReadContext, root: Path, file: Path, source: str, size: tuple[int, int] | None = None) -> None:
        self.id = file.relative_to(root).as_posix()
        self._context, self._file, self._source = context, file, source
        self._is_stated_size = size is not None
        self._size = size
        self._regions: list[Region] = []
        self._tags: list[str] = []
        self._invalid = False

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height for which the annotations were drawn; None if the image, whose own it is, is unreadable."""
        if self._size is None:
            with suppress(ImageError):  # reported by the check of the data set
                self._size = image_size(self._file)
        return self._size

    def add(self, where: str, name: str, *, segmentation: Any = None, box: Any = None, area: Any = None) -> None:
        """Add an annotation; one of a class that means normal adds nothing.

        Args:
            where: what it is called in messages, such as "annotation 7" or "line 3".
            name: its class.
            segmentation: polygons ``[[x0, y0, x1, y1, …], …]`` or run-length code; None or empty if there is none.
            box: left, top, right and bottom in pixels; None or empty if there is none.
            area: in pixels, as the file states it; None if it does not.
        """
        if self._context.is_normal(name):
            self._report_normal(name)
            return
        if self.size is None:
            self._invalid = True
            return
        try:
            region = make_region(name, self.size, segmentation, box, area)
        except ValueError as error:
            self.error(f"{where}: {one_line(error)}")
            return
        if region.note:
            message = f"{self._source}: {where}: its outline is not used, but its box ({region.note}); draw the outline again"
            self._context.warning(self.id, "outline not used", message)
        if region.redrawn:
            self._report_centres()
        self._regions.append(region)

    def tag(self, name: str) -> None:
        """Add a class of the whole image, such as a choice or a flag."""
        self._tags.append(name)

    def error(self, message: str) -> None:
        """Record an error of this image; ``message`` says where it is and what is wrong."""
        self._invalid = True
        self._context.error(self.id, INVALID, f"{self._source}: {message}; fix it or export the file again")

    def sample(self, *, published_split: str | None = None, group: str | None = None) -> Sample:
        """The sample: anomalous with a region or a tag that names a defect, otherwise normal.

        The defect type is the class of the largest region. If one region has no outline, the image gets the boxes of all of
        them, since outlines would declare the remaining pixels normal.
        """
        defects = [tag for tag in self._tags if not self._context.is_normal(tag)]
        self._context.normal_classes.update(tag for tag in self._tags if tag not in defects)
        if self._regions and self._tags and not defects:
            self.error(f"the choice {self._tags[0]} contradicts the {len(self._regions)} drawn defects; one of them is wrong")
        mask, boxes, defect = None, None, ""
        if self._regions:
            defect = clean_defect_type(max(self._regions, key=lambda region: region.area).name)
            if all(region.segmentation for region in self._regions) and self._size:
                mask = Shapes(tuple(json.dumps(region.segmentation) for region in self._regions), *self._size)
            else:
                boxes = self._boxes()
        elif defects and simplify(defects[0]) not in _UNTYPED:
            defect = clean_defect_type(defects[0])
        is_anomalous = bool(self._regions or defects or self._invalid)
        label: Label = "anomalous" if is_anomalous else "normal"
        return Sample(self.id, self._file, label, mask, defect, group, published_split, boxes=boxes)

    def _boxes(self) -> tuple[Box, ...]:
        try:
            if self._size and self._is_stated_size:
                refuse_other_size(self._file, *self._size)
        except ValueError as error:
            self.error(str(error))
        return tuple(region.box for region in self._regions)

    def _report_normal(self, name: str) -> None:
        self._context.normal_classes[name] += 1
        message = (
            f"class '{clean_defect_type(name)[:60]}' means normal: images annotated with nothing else are normal; "
            "if it is a defect, set data.normal_classes"
        )
        self._context.warn_once("normal class", message)

    def _report_centres(self) -> None:
        message = (
            "outlines run through the centres of the outermost pixels, as their boxes or areas show; "
            "these pixels are counted as defect, as they were before the export"
        )
        self._context.warn_once("outlines", message)


def make_region(name: str, size: tuple[int, int], segmentation: Any = None, box: Any = None, area: Any = None) -> Region:
    """The region of an annotation; a usable box makes up for a useless outline, and the reverse.

    The arguments are those of :meth:`AnnotatedImage.add`; ``size`` is the image's width and height.

    Raises:
        ValueError: neither the outline nor the box can be used.
    """
    stated = list(box) if isinstance(box, list | tuple) and len(box) == 4 and polygons.are_coordinates([*box]) else None
    segmentation = segmentation or _line(stated, area)
    outline, outline_fault = _try(lambda: _outline(segmentation, size, stated, area)) if segmentation else (None, "")
    edges, box_fault = _try(lambda: _clip(_check_box(box, stated, size), size)) if box else (None, "")
    if outline is None and edges is None:
        raise ValueError("; ".join(filter(None, [outline_fault, box_fault])) or "has neither box nor outline; one is required")
    if edges is None:
        edges = _clip(polygons.bounds(outline, *size) or (0, 0, 0, 0), size)
    has_area = polygons.are_coordinates([area])
    pixels = float(area) if has_area else (edges.right - edges.left) * (edges.bottom - edges.top)
    redrawn = isinstance(segmentation, list) and isinstance(outline, dict)
    return Region(name, edges, pixels, outline, redrawn, outline_fault)


def _try(make: Callable[[], Result]) -> tuple[Result | None, str]:
    """The result of a function and "", or None and the message of its ValueError."""
    try:
        return make(), ""
    except ValueError as error:
        return None, str(error)


def _outline(segmentation: Any, size: tuple[int, int], box: list[float] | None, area: Any) -> Any:
    """The segmentation as it can be drawn; a run-length code where polygons run through the centres of pixels."""
    if isinstance(segmentation, list):
        segmentation = [polygon for polygon in segmentation if polygon != []] or segmentation
    if polygons.run_through_centres(segmentation, box, area):
        return polygons.encode_with_outline(segmentation, *size)
    polygons.check(segmentation, *size)
    if isinstance(segmentation, list):
        _refuse_shares([edge for polygon in segmentation for edge in polygon], size)
    if polygons.bounds(segmentation, *size) is None:
        raise ValueError(f"outline does not overlap the image of {size[0]} x {size[1]} pixels")
    if isinstance(segmentation, list) and not any(map(_encloses_area, segmentation)):
        raise ValueError("outline is a line, which encloses no area")
    return segmentation


def _encloses_area(polygon: list[float]) -> bool:
    """Whether the points are not all on a line; exporters that simplify outlines of few pixels make lines of them."""
    points = [(x - polygon[0], y - polygon[1]) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
    x, y = max(points, key=lambda point: abs(point[0]) + abs(point[1]))
    return any(abs(x * point[1] - y * point[0]) > 1e-6 for point in points)


def _line(box: list[float] | None, area: Any) -> list[list[float]] | None:
    """The outline of a box that is one pixel wide or high and full: exporters that trace masks write no outline of such lines."""
    if box is None or not polygons.are_coordinates([area]):
        return None
    left, top, right, bottom = box
    is_full = min(right - left, bottom - top) == 1 and area == (right - left) * (bottom - top)
    return [[left, top, right, top, right, bottom, left, bottom]] if is_full else None


def _check_box(box: Any, edges: list[float] | None, size: tuple[int, int]) -> list[float]:
    if edges is None:
        raise ValueError(f"box is {shorten(repr(box), 60)}; expected four numbers in pixels")
    _refuse_shares(edges, size)
    return edges


def _refuse_shares(coordinates: Sequence[float], size: tuple[int, int]) -> None:
    """Refuse coordinates from 0 to 1, which would mark one pixel in the corner of the image."""
    are_whole = all(float(value).is_integer() for value in coordinates)
    if min(size) > 1 and not are_whole and all(0 <= value <= 1 for value in coordinates):
        raise ValueError("coordinates look like shares of the image's size, from 0 to 1; pixels are needed")


def _clip(edges: Sequence[float], size: tuple[int, int]) -> Box:
    """The part of a box inside the image; raises ValueError if there is none."""
    left, right = (min(max(edge, 0), size[0]) for edge in edges[::2])
    top, bottom = (min(max(edge, 0), size[1]) for edge in edges[1::2])
    if not (edges[0] < edges[2] and edges[1] < edges[3]):
        raise ValueError(f"box has no area ({edges[2] - edges[0]:g} x {edges[3] - edges[1]:g} pixels)")
    if not (left < right and top < bottom):
        raise ValueError(f"does not overlap the image of {size[0]} x {size[1]} pixels")
    return Box(left, top, right, bottom)
