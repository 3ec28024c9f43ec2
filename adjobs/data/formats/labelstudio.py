"""Label Studio's JSON export: a list of tasks with the regions that annotators drew and the choices that they made."""

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
from adjobs.data.reading import ReadContext
from adjobs.data.walk import clean_defect_type, image_files, is_image, json_files, read_json, validate
from adjobs.errors import DataError

NAME = "labelstudio"
DESCRIPTION = (
    "one .json (export as JSON) beside the images, matched by name; submitted without a region is normal, else unlabelled"
)

_NORMAL_CHOICES = {"good", "ok", "normal", "pass", "no defect", "no defects", "defect-free", "no anomaly", "none"}
_ANOMALOUS_CHOICES = {"bad", "ng", "anomalous", "anomaly", "abnormal", "defect", "defective", "fail"}  # a defect of unknown type
_REGION_TYPES = {"rectangle", "rectanglelabels", "polygon", "polygonlabels", "brush", "brushlabels"}
_NON_REGION_TYPES = {"choices", "labels", "textarea", "rating", "number", "taxonomy", "datetime", "relation"}
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")  # Label Studio adds it to the name of an uploaded file


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


class _Region(NamedTuple):
    """One defect: ``segmentation`` as in COCO, None for a rectangle; ``box`` in pixels; ``size`` is the image's width, height."""

    name: str
    segmentation: Any
    box: Box
    size: tuple[int, int]


def recognises(root: Path) -> bool:
    """Whether a JSON file is a list of tasks."""
    return bool(json_files([root], "[", "data", "annotations"))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; images without a task are unlabelled.

    If a task has several annotations, the ground truth is used, or else the latest. Polygons and brush strokes become a mask;
    if one region is a rectangle, all become boxes, a rotated rectangle its bounding box.

    Raises:
        DataError: the export is malformed, contradicts itself, or names an image that does not exist.
    """
    exports = json_files([root], "[", "data", "annotations")
    if len(exports) > 1:
        names = ", ".join(path.name for path in exports)
        raise DataError(f"{root}: has {len(exports)} exports of Label Studio ({names}); expected one; remove the others")
    path, images = exports[0], _Images(root, context)
    samples: list[Sample] = []
    for task in validate(_Tasks, read_json(path), path).root:
        try:
            samples.append(_sample(root, images.find(task), task))
        except ValueError as error:
            raise DataError(f"{path}: task {task.id}: {error}; fix it in Label Studio and export again") from error
    labelled = {sample.image for sample in samples}
    unlabelled = [image for image in images.paths if image not in labelled]
    return samples + [Sample(image.relative_to(root).as_posix(), image, "unlabelled") for image in unlabelled]


class _Images:
    """Images of a folder, looked up by the addresses in tasks."""

    def __init__(self, root: Path, context: ReadContext) -> None:
        self.paths = image_files(root, context)
        self._root = root
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            self._by_name[path.name].append(path)

    def find(self, task: _Task) -> Path:
        """The image of a task; raises ValueError unless exactly one matches."""
        address = _address(task)
        name = PurePosixPath(address).name
        matches = self._by_name.get(name) or self._by_name.get(_UPLOAD_PREFIX.sub("", name, count=1)) or []
        if len(matches) > 1:  # the folders in the address may distinguish images of the same name
            exact = [path for path in matches if f"/{address}".endswith("/" + path.relative_to(self._root).as_posix())]
            matches = exact if len(exact) == 1 else matches
        if len(matches) != 1:
            raise ValueError(f"found {len(matches)} images named {name} beside the export; expected one")
        return matches[0]


def _address(task: _Task) -> str:
    """Path of a task's image, from the address of an upload, a local file or a web page."""
    texts = [value for value in (task.data.get("image"), *task.data.values()) if isinstance(value, str)]
    for text in texts:
        address = urlsplit(text)
        path = parse_qs(address.query).get("d", [unquote(address.path)])[0]
        if is_image(Path(path)):
            return path
    if task.file_upload:
        return task.file_upload
    raise ValueError(f"data is {repr(task.data)[:60]}; expected the address of an image")


def _sample(root: Path, image: Path, task: _Task) -> Sample:
    """The sample of a task; raises ValueError if its annotation is contradictory or malformed."""
    name = image.relative_to(root).as_posix()
    valid = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    if not valid:
        return Sample(name, image, "unlabelled")
    results = max(valid, key=lambda annotation: (bool(annotation.ground_truth), annotation.updated_at or "")).result
    regions, choices = _regions(results), _choices(results)
    defect_choices = [choice for choice in choices if choice.lower() not in _NORMAL_CHOICES]
    if regions and choices and not defect_choices:
        raise ValueError(f"the choice {choices[0]} contradicts the {len(regions)} drawn defects; one of them is wrong")
    if not regions:
        has_type = defect_choices and defect_choices[0].lower() not in _ANOMALOUS_CHOICES
        defect = clean_defect_type(defect_choices[0]) if has_type else ""
        return Sample(name, image, "anomalous" if defect_choices else "normal", defect=defect)
    if len({region.size for region in regions}) > 1:
        raise ValueError("regions refer to images of different sizes; all must refer to the same image")
    largest = max(regions, key=lambda region: (region.box.right - region.box.left) * (region.box.bottom - region.box.top))
    if all(region.segmentation for region in regions):
        mask = Shapes(tuple(json.dumps(region.segmentation) for region in regions), *regions[0].size)
        return Sample(name, image, "anomalous", mask, largest.name)
    refuse_other_size(image, *regions[0].size)
    return Sample(name, image, "anomalous", defect=largest.name, boxes=tuple(region.box for region in regions))


def _choices(results: list[_Result]) -> list[str]:
    """Choices about the image; a choice with the id of a region is about that region only."""
    region_ids = {result.id for result in results if result.type in _REGION_TYPES and result.id}
    values = [result.value.get("choices") for result in results if result.type == "choices" and result.id not in region_ids]
    return [str(choice) for choices in values if isinstance(choices, list) for choice in choices]


def _regions(results: list[_Result]) -> list[_Region]:
    # A region drawn with <Labels> has its label in a second result with the same id.
    labels = {result.id: result.value for result in results if result.type == "labels" and result.id}
    regions = []
    for result in results:
        if result.type in _REGION_TYPES:
            region = _region(result, labels.get(result.id or "", result.value))
            regions.extend([region] if region else [])
        elif result.type not in _NON_REGION_TYPES:
            raise ValueError(f"type {result.type} is not supported; allowed are rectangles, polygons, brush strokes and choices")
    return regions


def _region(result: _Result, label_value: dict[str, Any]) -> _Region | None:
    width, height = result.original_width or 0, result.original_height or 0
    if width <= 0 or height <= 0:
        raise ValueError(f"a {result.type} has no original_width and original_height; both are required")
    if result.image_rotation:
        raise ValueError(
            f"a {result.type} was drawn on an image rotated by {result.image_rotation:g} degrees; only 0 is supported"
        )
    names = label_value.get("labels") or label_value.get(result.type) or [""]
    name = clean_defect_type(str(names[0])) if isinstance(names, list) else ""
    kind = result.type.removesuffix("labels")
    if kind == "rectangle":
        outline: Any = [_rectangle(result.value, width, height)]
    elif kind == "polygon":
        outline = [_polygon(result.value.get("points"), width, height)]
    else:
        outline = polygons.encode(decode_brush(result.value.get("rle"), width, height))
    box = polygons.bounds(outline, width, height)
    if box is None and kind == "brush":  # everything painted was erased again
        return None
    if box is None:
        raise ValueError(f"a {result.type} does not overlap the image")
    return _Region(name, None if kind == "rectangle" else outline, Box(*box), (width, height))


def _rectangle(value: dict[str, Any], width: int, height: int) -> list[float]:
    """Corners in pixels of a rectangle in per cent, rotated clockwise around its upper left corner by ``rotation`` degrees."""
    numbers = [value.get(key) for key in ("x", "y", "width", "height")] + [value.get("rotation") or 0]
    if not polygons.are_coordinates(numbers):
        raise ValueError(f"a rectangle has x, y, width, height and rotation {numbers}; all must be numbers")
    x, y, right, down, rotation = (float(number or 0) for number in numbers)
    cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    x, right, y, down = x * width / 100, right * width / 100, y * height / 100, down * height / 100
    corners = [(0.0, 0.0), (right, 0.0), (right, down), (0.0, down)]
    return _rounded([edge for a, b in corners for edge in (x + a * cos - b * sin, y + a * sin + b * cos)], width, height)


def _polygon(points: Any, width: int, height: int) -> list[float]:
    flat = [edge for point in points for edge in point] if isinstance(points, list) and all(map(_is_pair, points)) else None
    if flat is None or not polygons.are_coordinates(flat):
        raise ValueError(f"a polygon has points {repr(points)[:60]}; expected [[x, y], …] in per cent")
    return _rounded([edge * (height if i % 2 else width) / 100 for i, edge in enumerate(flat)], width, height)


def _is_pair(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2


def _rounded(edges: list[float], width: int, height: int) -> list[float]:
    """Clipped to the image and rounded to a hundredth of a pixel: percentages seldom give back the exact pixel."""
    return [round(min(max(edge, 0), height if i % 2 else width), 2) for i, edge in enumerate(edges)]
