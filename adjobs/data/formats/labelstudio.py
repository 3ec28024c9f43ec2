"""Label Studio's JSON export: a list of tasks with the regions that annotators drew and the choices that they made."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel

from adjobs.data.annotation_files import warn_of_damaged
from adjobs.data.annotations import INVALID, AnnotatedImage
from adjobs.data.dataset import Sample
from adjobs.data.labels import polygons
from adjobs.data.labels.labelstudio_rle import decode_brush
from adjobs.data.labels.rasters import encode_ellipse
from adjobs.data.lookup import UploadFinder, normal_form
from adjobs.data.reading import ReadContext
from adjobs.data.walk import is_image, json_files, read_json, validate_each
from adjobs.errors import DataError, one_line, shorten

NAME = "labelstudio"
DESCRIPTION = (
    "one .json (export as JSON) beside the images, matched by name; submitted without a region is normal, else unlabelled"
)

_REGION_TYPES = {"rectangle", "rectanglelabels", "polygon", "polygonlabels", "brush", "brushlabels", "ellipse", "ellipselabels"}
_NON_REGION_TYPES = {"choices", "labels", "textarea", "rating", "number", "taxonomy", "datetime", "relation"}
_SHAPES = "rectangles, polygons, ellipses, brush strokes"
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio adds it to the name of an uploaded file


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


class _Region(NamedTuple):
    """One drawn region: either ``segmentation`` as in COCO, or the ``box`` of a rectangle, in pixels."""

    name: str
    segmentation: Any = None
    box: tuple[float, ...] | None = None


def recognises(root: Path) -> bool:
    """Whether a JSON file is a list of tasks."""
    return bool(json_files([root], "[", "data", "annotations"))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; images without a task are unlabelled.

    If a task has several annotations, the ground truth is used, or else the latest; where they disagree, a warning says so.
    Polygons, ellipses and brush strokes become a mask; if one region is a rectangle, all become boxes, a rotated rectangle its
    bounding box. A task that is malformed, contradicts itself, or names no image is an error.

    Raises:
        DataError: the export is not a list of tasks, or there are several.
    """
    exports = json_files([root], "[", "data", "annotations")
    if len(exports) > 1:
        names = ", ".join(path.name for path in exports)
        raise DataError(f"{root}: has {len(exports)} exports of Label Studio ({shorten(names)}); expected one; remove the others")
    warn_of_damaged(root, root.glob("*.json"), exports, context)
    path, images = exports[0], UploadFinder(root, context)
    samples: dict[Path, Sample] = {}
    for task, file in _tasks(path, images, context):
        if file in samples:
            name = samples[file].id
            context.error(f"{path.name}: task {task.id}", INVALID, f"is about {name}, as an earlier task; remove one of the two")
        else:
            samples[file] = _sample(task, root, file, f"{path.name}: task {task.id}", context)
    unlabelled = [image for image in images.paths if image not in samples]
    return [*samples.values(), *(Sample(image.relative_to(root).as_posix(), image, "unlabelled") for image in unlabelled)]


def _tasks(path: Path, images: UploadFinder, context: ReadContext) -> Iterator[tuple[_Task, Path]]:
    """The valid tasks of an export, each with its image."""
    entries = read_json(path)
    for number, (task, fault) in enumerate(validate_each(_Task, entries)):
        where = f"{path.name}: task {task.id if task else f'number {number + 1}'}"
        if task is None:
            context.error(where, INVALID, f"{fault}; fix it in Label Studio and export again")
            continue
        try:
            yield task, _find(task, images)
        except ValueError as error:
            context.error(where, INVALID, f"{one_line(error)}; fix it in Label Studio and export again")


def _find(task: _Task, images: UploadFinder) -> Path:
    """The image of a task; raises ValueError unless exactly one matches."""
    addresses = list(_addresses(task))
    if not addresses:
        raise ValueError(f"data is {shorten(repr(task.data), 60)}; expected the address of an image")
    candidates = [(address, _matches(address, images)) for address in addresses]
    for _, matches in candidates:
        if len(matches) == 1:
            return matches[0]
    address, matches = next(((address, matches) for address, matches in candidates if matches), candidates[0])
    name = shorten(PurePosixPath(address).name, 80)
    raise ValueError(f"found {len(matches)} images named {name} beside the export; expected one")


def _matches(address: str, images: UploadFinder) -> list[Path]:
    name = PurePosixPath(address).name
    matches = images.named(name) or images.uploaded(_UPLOAD_PREFIX.sub("", name, count=1))
    if len(matches) > 1:  # the folders in the address may distinguish images of the same name
        whole = normal_form(f"/{address}")
        exact = [path for path in matches if whole.endswith(normal_form(f"/{path.relative_to(images.root).as_posix()}"))]
        matches = exact if len(exact) == 1 else matches
    return matches


def _addresses(task: _Task) -> Iterator[str]:
    """Paths that a task's image may have, from the address of an upload, a local file, a bucket or a web page.

    The address is taken literally first: names in buckets may hold what means something else in a web address.
    """
    for text in (task.data.get("image"), *task.data.values()):
        if isinstance(text, str):
            yield from filter(_is_image_path, (text, *_parsed(text)))
    if task.file_upload:
        yield task.file_upload


def _parsed(text: str) -> list[str]:
    try:
        address = urlsplit(text)
    except ValueError:  # brackets that are no IPv6 address
        return []
    return parse_qs(address.query).get("d", [unquote(address.path)])[:1]


def _is_image_path(path: str) -> bool:
    return is_image(Path(path))


def _sample(task: _Task, root: Path, file: Path, source: str, context: ReadContext) -> Sample:
    valid = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    if not valid:
        return Sample(file.relative_to(root).as_posix(), file, "unlabelled")
    used = max(valid, key=lambda annotation: (bool(annotation.ground_truth), annotation.updated_at or ""))
    sizes = {(result.original_width or 0, result.original_height or 0) for result in used.result if result.type in _REGION_TYPES}
    image = AnnotatedImage(context, root, file, source, next((size for size in sorted(sizes) if min(size) > 0), None))
    if len(sizes) > 1:
        image.error("regions refer to images of different sizes; all must refer to the same image")
    verdicts = list(dict.fromkeys(_verdict(annotation.result, context) for annotation in valid))
    if len(verdicts) > 1 and not used.ground_truth:
        message = (
            f"{len(valid)} annotations disagree ({shorten(', '.join(verdicts))}); the latest is used; mark one as ground truth"
        )
        context.warning(image.id, "annotators disagree", f"{source}: {message}")
    for choice in _choices(used.result):
        image.tag(choice)
    labels = _labels(used.result)
    for result in used.result:
        where = f"region {result.id}" if result.id else f"a {result.type}"
        try:
            region = _region(result, _class_name(result, labels))
        except ValueError as error:
            image.error(f"{where}: {one_line(error)}")
            continue
        if region:
            image.add(where, region.name, segmentation=region.segmentation, box=region.box)
    return image.sample()


def _verdict(results: list[_Result], context: ReadContext) -> str:
    """What an annotation says about the image: its choices, or else whether there is a defect."""
    choices = [choice for choice in _choices(results) if not context.is_normal(choice)]
    if choices:
        return ", ".join(f"'{choice}'" for choice in sorted(set(choices)))
    labels = _labels(results)
    classes = [_class_name(result, labels) for result in results if result.type in _REGION_TYPES]
    return "normal" if all(map(context.is_normal, classes)) else "anomalous"


def _labels(results: list[_Result]) -> dict[str, dict[str, Any]]:
    """Values of the results that label regions: one drawn with <Labels> has its label in a second result with the same id."""
    return {result.id: result.value for result in results if result.type == "labels" and result.id}


def _class_name(result: _Result, labels: dict[str, dict[str, Any]]) -> str:
    value = labels.get(result.id or "", result.value)
    names = value.get("labels") or value.get(result.type) or [""]
    return str(names[0]) if isinstance(names, list) else ""


def _choices(results: list[_Result]) -> list[str]:
    """Choices about the image; a choice with the id of a region is about that region only."""
    region_ids = {result.id for result in results if result.type in _REGION_TYPES and result.id}
    values = [result.value.get("choices") for result in results if result.type == "choices" and result.id not in region_ids]
    return [str(choice) for choices in values if isinstance(choices, list) for choice in choices]


def _region(result: _Result, name: str) -> _Region | None:
    """The region of a result; None for what is no region; raises ValueError if it cannot be used."""
    if result.type in _NON_REGION_TYPES:
        return None
    if result.type not in _REGION_TYPES:
        raise ValueError(
            f"type {result.type} is not supported; allowed are rectangles, polygons, ellipses, brush strokes and choices"
        )
    width, height = result.original_width or 0, result.original_height or 0
    if width <= 0 or height <= 0:
        raise ValueError(f"a {result.type} has no original_width and original_height; both are required")
    if result.image_rotation:
        raise ValueError(
            f"a {result.type} was drawn on an image rotated by {result.image_rotation:g} degrees; only 0 is supported"
        )
    kind = result.type.removesuffix("labels")
    if kind == "rectangle":
        corners = _rectangle(result.value, width, height)
        box = (min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2]))
        return _Region(name, box=box)
    if kind == "polygon":
        return _Region(name, [_polygon(result.value.get("points"), width, height)])
    if kind == "ellipse":
        return _Region(name, _ellipse(result.value, width, height))
    painted = decode_brush(result.value.get("rle"), width, height)
    # A stroke may have been erased again.
    return _Region(name, polygons.encode(painted)) if painted.any() else None


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


def _ellipse(value: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    """Run-length code of an ellipse in per cent, turned clockwise around its centre by ``rotation`` degrees."""
    numbers = [value.get(key) for key in ("x", "y", "radiusX", "radiusY")] + [value.get("rotation") or 0]
    if not polygons.are_coordinates(numbers):
        raise ValueError(f"an ellipse has x, y, radiusX, radiusY and rotation {numbers}; all must be numbers")
    x, y, radius_x, radius_y, rotation = (float(number or 0) for number in numbers)
    centre, radii = (x * width / 100, y * height / 100), (radius_x * width / 100, radius_y * height / 100)
    return encode_ellipse(centre, radii, math.radians(rotation), (width, height))


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
