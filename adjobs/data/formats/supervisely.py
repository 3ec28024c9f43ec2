"""A project of Supervisely: ``meta.json``, and for each data set the images and a JSON file for each image."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from adjobs.data.annotation_files import AnnotatedImages, add_region, head, no_region, points_of, published_split
from adjobs.data.dataset import Sample
from adjobs.data.labels.rasters import TracedPolygon, decode_png, encode_bitmap, encode_traced, turned_box
from adjobs.data.reading import ReadContext, simplify
from adjobs.data.walk import SPLIT_FOLDERS, files_under, read_json, validate
from adjobs.errors import DataError

NAME = "supervisely"
DESCRIPTION = "meta.json, <data set>/img/x.jpg, <data set>/ann/x.jpg.json; an image without objects is normal"

_ANNOTATIONS, _IMAGES = "ann", "img"


class _Object(BaseModel):
    id: int | str | None = None
    classTitle: str  # noqa: N815
    geometryType: str  # noqa: N815
    points: Any = None
    polygons: list[Any] = Field([], alias="parts")
    bitmap: dict[str, Any] | None = None  # null beside polygons in older exports
    angle: float | None = Field(None, allow_inf_nan=False)


class _Polygon(BaseModel):
    exterior: list[Any]
    interior: list[Any] = []


class _Tag(BaseModel):
    name: str
    value: Any = None


class _Annotation(BaseModel):
    size: dict[str, Any] = {}
    tags: list[_Tag] = []
    objects: list[_Object]


def recognises(root: Path) -> bool:
    """Whether there is a ``meta.json`` with classes."""
    text = head(root / "meta.json")
    return text.startswith("{") and '"classes"' in text


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; an image without annotation file is unlabelled.

    Bitmaps and polygons become the mask; if one object of an image is a rectangle, all become boxes. Tags of images are their
    classes; ``train``, ``val`` and ``test``, as tags or as names of data sets, are published splits.
    """
    images = AnnotatedImages(root, context)
    for path in files_under(root, lambda path: path.parent.name == _ANNOTATIONS and path.suffix.lower() == ".json", context):
        _read_annotation(images, path)
    return list(images.samples())


def _read_annotation(images: AnnotatedImages, path: Path) -> None:
    source = path.relative_to(images.root).as_posix()
    file = images.find(source, path.stem, [path.parents[1] / _IMAGES])
    if file is None:
        return
    try:
        annotation = validate(_Annotation, read_json(path), path)
    except DataError as error:
        images.invalid(file, source, str(error))
        return
    tags = [tag for tag in annotation.tags if simplify(tag.name) not in SPLIT_FOLDERS]
    split = published_split(*(tag.name for tag in annotation.tags if tag not in tags))
    annotated = images.open(file, source, (annotation.size.get("width"), annotation.size.get("height")), split)
    if annotated is None:
        return
    for number, entry in enumerate(annotation.objects, 1):
        where = f"object {number if entry.id is None else entry.id}"
        add_region(annotated, where, entry.classTitle, partial(_region, entry))
    for tag in tags:
        images.add_attribute(annotated, tag.name, tag.value)


def _region(entry: _Object, size: tuple[int, int]) -> dict[str, Any]:
    """Outline or box of an object, as arguments of :meth:`AnnotatedImage.add`; raises ValueError if it is malformed."""
    kind = entry.geometryType
    if kind in ("bitmap", "alpha_mask"):
        bitmap = entry.bitmap or {}
        left, top = points_of([bitmap.get("origin")])
        return {"segmentation": encode_bitmap(decode_png(str(bitmap.get("data"))), int(left), int(top), size)}
    if kind == "polygon":
        return {"segmentation": encode_traced([_polygon(entry.points)], size)}
    if kind == "multipolygon":
        return {"segmentation": encode_traced(map(_polygon, entry.polygons), size)}
    if kind in ("rectangle", "oriented_bbox"):
        left, top, right, bottom = _corners(entry.points)
        # The right and bottom edges are the last pixels inside.
        return {"box": turned_box(left, top, right + 1, bottom + 1, entry.angle or 0)}
    raise ValueError(no_region(kind))


def _corners(points: Any) -> list[float]:
    corners = points_of(points.get("exterior") if isinstance(points, dict) else points)
    if len(corners) != 4:
        raise ValueError(f"rectangle has {len(corners) // 2} points; expected two corners")
    return corners


def _polygon(points: Any) -> TracedPolygon:
    shape = _Polygon.model_validate(points or {})
    return points_of(shape.exterior), [points_of(hole) for hole in shape.interior]
