"""Datumaro's own JSON, as Datumaro and CVAT write it."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from adjobs.data.annotation_files import AnnotatedImages, add_region, no_region, published_split, warn_of_damaged
from adjobs.data.dataset import Sample
from adjobs.data.labels import polygons
from adjobs.data.labels.rasters import encode_ellipse, turned_box
from adjobs.data.reading import ReadContext
from adjobs.data.walk import json_files, read_json, validate, validate_each
from adjobs.errors import shorten

NAME = "datumaro"
DESCRIPTION = "annotations/<subset>.json of Datumaro, images/ or images/<subset>/; unannotated images are normal"

_OUTLINES = ("polygon", "mask", "ellipse")


class _Annotation(BaseModel):
    type: str
    id: int | None = None
    group: int | None = None
    label_id: int | None = None
    bbox: list[Any] = []
    points: list[Any] = []
    rle: Any = None
    attributes: dict[str, Any] = {}


class _Image(BaseModel):
    path: str = ""
    size: list[int] | None = None


class _Item(BaseModel):
    id: str
    annotations: list[_Annotation] = []
    image: _Image


class _Label(BaseModel):
    name: str


class _Labels(BaseModel):
    labels: list[_Label] = []


class _Categories(BaseModel):
    label: _Labels = _Labels()


class _Document(BaseModel):
    categories: _Categories
    items: list[Any]


def recognises(root: Path) -> bool:
    """Whether a JSON file in ``annotations`` has ``items`` and ``categories``."""
    return bool(_documents(root))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; an image that no file names is unlabelled.

    Polygons, masks and ellipses become the mask; if one annotation of an image is only a box, all become boxes. Annotations of
    type ``label`` are classes of the whole image.

    Raises:
        DataError: a file as a whole is malformed.
    """
    images, documents = AnnotatedImages(root, context), _documents(root)
    warn_of_damaged(root, (root / "annotations").glob("*.json"), documents, context)
    for path in documents:
        document = validate(_Document, read_json(path), path)
        names = [label.name for label in document.categories.label.labels]
        for number, (item, fault) in enumerate(validate_each(_Item, document.items), 1):
            if item is None:
                images.error(path.name, f"item {number}", fault)
            else:
                _read_item(images, path, item, names)
    return list(images.samples())


def _documents(root: Path) -> list[Path]:
    return json_files([root / "annotations"], "{", "items", "categories")


def _read_item(images: AnnotatedImages, path: Path, item: _Item, names: list[str]) -> None:
    root = images.root
    folders = [root / "images" / path.stem, root / "images", root]
    file = images.find(path.name, item.image.path or item.id, folders)
    if file is None:
        return
    height, width = item.image.size if item.image.size and len(item.image.size) == 2 else (None, None)
    annotated = images.open(file, path.name, (width, height), published_split(path.stem))
    if annotated is None:
        return
    # The box of an object that has an outline, too, is in its group.
    outlined = {entry.group for entry in item.annotations if entry.type in _OUTLINES and entry.group}
    for number, entry in enumerate(item.annotations, 1):
        where = f"item {shorten(item.id, 80)}, annotation {number}"
        known = entry.label_id is None or 0 <= entry.label_id < len(names)
        name = names[entry.label_id] if entry.label_id is not None and known else ""
        if not known:
            annotated.error(f"{where} has the label {entry.label_id}; the file has {len(names)} labels, from 0")
        elif entry.type == "label":
            annotated.tag(name)
        elif entry.type != "caption" and not (entry.type == "bbox" and entry.group in outlined):
            add_region(annotated, where, name, partial(_region, entry))


def _region(entry: _Annotation, size: tuple[int, int]) -> dict[str, Any]:
    """Outline or box of an annotation, as arguments of :meth:`AnnotatedImage.add`; raises ValueError if it is malformed."""
    if entry.type == "polygon":
        return {"segmentation": [entry.points]}
    if entry.type == "mask":
        return {"segmentation": entry.rle or {}}
    values = entry.bbox if entry.type == "bbox" else entry.points
    if not polygons.are_coordinates(values):
        raise ValueError(f"coordinates are {shorten(repr(values), 60)}; expected numbers in pixels")
    if entry.type == "bbox" and len(values) == 4:
        left, top, width, height = values
        degrees = entry.attributes.get("rotation", 0)  # as CVAT writes it
        if not polygons.are_coordinates([degrees]):
            raise ValueError(f"rotation is {shorten(repr(degrees), 60)}; expected a number of degrees")
        return {"box": turned_box(left, top, left + width, top + height, math.radians(degrees))}
    if entry.type == "ellipse" and len(values) == 4:
        left, top, right, bottom = values
        centre, radii = ((left + right) / 2, (top + bottom) / 2), ((right - left) / 2, (bottom - top) / 2)
        return {"segmentation": encode_ellipse(centre, radii, 0, size)}
    raise ValueError(no_region(entry.type))
