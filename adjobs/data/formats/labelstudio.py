"""Label Studio's export in its own JSON: a list of tasks with what annotators drew and chose."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, RootModel

from adjobs.data.dataset import Sample
from adjobs.data.images import refuse_other_size
from adjobs.data.labels import polygons
from adjobs.data.labels.labelstudio_rle import decode_brush
from adjobs.data.labels.masks import Box, Shapes
from adjobs.data.walk import image_files, is_image, json_files, read_json, type_name, validated
from adjobs.errors import DataError

NAME = "labelstudio"
DESCRIPTION = (
    "one .json (export as JSON) beside the images, found by name; submitted without a mark is good, not submitted unlabelled"
)

_GOOD = {"good", "ok", "normal", "pass", "no defect", "no defects", "defect-free", "no anomaly", "none"}
_BAD = {"bad", "ng", "anomalous", "anomaly", "abnormal", "defect", "defective", "fail"}  # say that there is a defect, not which
_DRAWN = {"rectangle", "rectanglelabels", "polygon", "polygonlabels", "brush", "brushlabels"}
_SAID = {"choices", "labels", "textarea", "rating", "number", "taxonomy", "datetime", "relation"}
_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of a file that is uploaded


class _Result(BaseModel):
    id: str | None = None
    type: str
    value: dict[str, Any] = {}
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float | None = None


class _Annotation(BaseModel):
    result: list[_Result]
    was_cancelled: bool | None = None
    ground_truth: bool | None = None
    updated_at: str | None = None


class _Task(BaseModel):
    id: int | str
    data: dict[str, Any]
    annotations: list[_Annotation]
    file_upload: str | None = None


class _Tasks(RootModel[list[_Task]]):
    pass


class _Mark(NamedTuple):
    """One defect: ``segmentation`` in COCO's form, None for a rectangle, and its box in pixels."""

    name: str
    segmentation: Any
    box: Box
    size: tuple[int, int]


def recognises(root: Path) -> bool:
    """Whether a JSON file is a list of tasks."""
    return bool(json_files([root], "[", "data", "annotations"))


def read(root: Path) -> list[Sample]:
    """List the samples; images without a task are unlabelled.

    Of several annotations of a task the ground truth counts, else the latest. Polygons and brush strokes become a mask; where
    one mark is a rectangle, all become boxes, a turned rectangle the upright box around it.

    Raises:
        DataError: the export is malformed, contradicts itself, or names an image that is not there.
    """
    found = json_files([root], "[", "data", "annotations")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{root}: has {len(found)} exports of Label Studio ({names}); allowed is one; remove the others")
    path, images = found[0], _Images(root)
    samples: list[Sample] = []
    for task in validated(_Tasks, read_json(path), path).root:
        try:
            samples.append(_sample(root, images.find(task), task))
        except ValueError as error:
            raise DataError(f"{path}: task {task.id}: {error}; correct it in Label Studio and export again") from error
    named = {sample.image for sample in samples}
    others = [image for image in images.all if image not in named]
    return samples + [Sample(image.relative_to(root).as_posix(), image, "unlabelled") for image in others]


class _Images:
    """Images of a folder, found by the addresses that tasks have for them."""

    def __init__(self, root: Path) -> None:
        self.all = image_files(root)
        self._root = root
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.all:
            self._by_name[path.name].append(path)

    def find(self, task: _Task) -> Path:
        """The image of a task; raises ValueError if there is none, or more than one."""
        address = _address(task)
        name = PurePosixPath(address).name
        found = self._by_name.get(name) or self._by_name.get(_UPLOADED.sub("", name, count=1)) or []
        if len(found) > 1:  # of one name; the folders in the address may tell them apart
            ends = [path for path in found if f"/{address}".endswith("/" + path.relative_to(self._root).as_posix())]
            found = ends if len(ends) == 1 else found
        if len(found) != 1:
            raise ValueError(f"image {name} is there {len(found)} times; needed is one file of this name beside the export")
        return found[0]


def _address(task: _Task) -> str:
    """Path of a task's image, out of an upload's address, a local file's or a web address."""
    texts = [value for value in (task.data.get("image"), *task.data.values()) if isinstance(value, str)]
    for text in texts:
        address = urlsplit(text)
        path = parse_qs(address.query).get("d", [unquote(address.path)])[0]
        if is_image(Path(path)):
            return path
    if task.file_upload:
        return task.file_upload
    raise ValueError(f"data is {repr(task.data)[:60]}; needed is the address of an image")


def _sample(root: Path, image: Path, task: _Task) -> Sample:
    """Raises ValueError with what is wrong."""
    name = image.relative_to(root).as_posix()
    valid = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    if not valid:
        return Sample(name, image, "unlabelled")
    results = max(valid, key=lambda annotation: (bool(annotation.ground_truth), annotation.updated_at or "")).result
    marks, choices = _marks(results), _choices(results)
    bad = [choice for choice in choices if choice.lower() not in _GOOD]
    if marks and choices and not bad:
        raise ValueError(f"says {choices[0]} and marks {len(marks)} defects; one of both is wrong")
    if not marks:
        kind = "" if not bad or bad[0].lower() in _BAD else type_name(bad[0])
        return Sample(name, image, "anomalous" if bad else "normal", defect=kind)
    if len({mark.size for mark in marks}) > 1:
        raise ValueError("marks are for images of different sizes; an image has one")
    largest = max(marks, key=lambda mark: (mark.box.right - mark.box.left) * (mark.box.bottom - mark.box.top))
    if all(mark.segmentation for mark in marks):
        mask = Shapes(tuple(json.dumps(mark.segmentation) for mark in marks), *marks[0].size)
        return Sample(name, image, "anomalous", mask, largest.name)
    refuse_other_size(image, *marks[0].size)
    return Sample(name, image, "anomalous", defect=largest.name, boxes=tuple(mark.box for mark in marks))


def _choices(results: list[_Result]) -> list[str]:
    """What was chosen for the image; a choice with the id of a shape is about that shape alone."""
    shapes = {result.id for result in results if result.type in _DRAWN and result.id}
    chosen = [result.value.get("choices") for result in results if result.type == "choices" and result.id not in shapes]
    return [str(choice) for choices in chosen if isinstance(choices, list) for choice in choices]


def _marks(results: list[_Result]) -> list[_Mark]:
    # A shape drawn with <Labels> has its name in a second result with the same id.
    names = {result.id: result.value for result in results if result.type == "labels" and result.id}
    marks = []
    for result in results:
        if result.type in _DRAWN:
            mark = _mark(result, names.get(result.id or "", result.value))
            marks.extend([mark] if mark else [])
        elif result.type not in _SAID:
            raise ValueError(f"type {result.type} cannot be read; allowed are rectangles, polygons, brush strokes and choices")
    return marks


def _mark(result: _Result, naming: dict[str, Any]) -> _Mark | None:
    width, height = result.original_width or 0, result.original_height or 0
    if width <= 0 or height <= 0:
        raise ValueError(f"a {result.type} has no original_width and original_height; they are needed")
    if result.image_rotation:
        raise ValueError(f"a {result.type} was drawn on an image turned by {result.image_rotation:g} degrees; allowed is 0")
    names = naming.get("labels") or naming.get(result.type) or [""]
    name = type_name(str(names[0])) if isinstance(names, list) else ""
    kind = result.type.removesuffix("labels")
    if kind == "rectangle":
        outline: Any = [_rectangle(result.value, width, height)]
    elif kind == "polygon":
        outline = [_polygon(result.value.get("points"), width, height)]
    else:
        outline = polygons.encode(decode_brush(result.value.get("rle"), width, height))
    box = polygons.bounds(outline, width, height)
    if box is None and kind == "brush":  # painted and erased again
        return None
    if box is None:
        raise ValueError(f"a {result.type} has no area inside the image")
    return _Mark(name, None if kind == "rectangle" else outline, Box(*box), (width, height))


def _rectangle(value: dict[str, Any], width: int, height: int) -> list[float]:
    """Corners in pixels of a rectangle in per cent, turned clockwise around its upper left corner by degrees."""
    given = [value.get(key) for key in ("x", "y", "width", "height")] + [value.get("rotation") or 0]
    if not polygons.are_coordinates(given):
        raise ValueError(f"a rectangle has x, y, width, height and rotation {given}; allowed are numbers")
    x, y, right, down, turn = (float(number or 0) for number in given)
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    x, right, y, down = x * width / 100, right * width / 100, y * height / 100, down * height / 100
    corners = [(0.0, 0.0), (right, 0.0), (right, down), (0.0, down)]
    return _rounded([edge for a, b in corners for edge in (x + a * cos - b * sin, y + a * sin + b * cos)], width, height)


def _polygon(points: Any, width: int, height: int) -> list[float]:
    flat = [edge for point in points for edge in point] if isinstance(points, list) and all(map(_is_pair, points)) else None
    if flat is None or not polygons.are_coordinates(flat):
        raise ValueError(f"a polygon has points {repr(points)[:60]}; allowed is [[x, y], …] in per cent")
    return _rounded([edge * (height if i % 2 else width) / 100 for i, edge in enumerate(flat)], width, height)


def _is_pair(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2


def _rounded(edges: list[float], width: int, height: int) -> list[float]:
    """Inside the image, and to a hundredth of a pixel: per cent of a whole pixel seldom come back as that pixel."""
    return [round(min(max(edge, 0), height if i % 2 else width), 2) for i, edge in enumerate(edges)]
