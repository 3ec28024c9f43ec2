"""VGG Image Annotator: its project file, or its annotations exported as JSON or CSV."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from adjobs.data.annotation_files import AnnotatedImages, add_region, class_of, head, no_region, numbers, warn_of_damaged
from adjobs.data.dataset import Sample
from adjobs.data.labels.rasters import encode_ellipse
from adjobs.data.reading import ReadContext
from adjobs.data.walk import json_files, read_csv, read_json, validate_each
from adjobs.errors import DataError, shorten

NAME = "via"
DESCRIPTION = "one .json or .csv of VGG Image Annotator (VIA 1 or 2) beside the images; images without regions are normal"

_PROJECT = "_via_img_metadata"
_JSON_COLUMNS = (2, 5, 6)
_Attributes = TypeAdapter(dict[str, Any])
_SHAPES_COLUMN = "region_shape_attributes"


class _Region(BaseModel):
    shape_attributes: dict[str, Any]
    region_attributes: dict[str, Any] = {}


class _Image(BaseModel):
    filename: str
    file_attributes: dict[str, Any] = {}
    regions: list[Any] | dict[str, Any] = []


def recognises(root: Path) -> bool:
    """Whether a JSON file has ``regions`` and ``file_attributes``, or a CSV file the columns of VIA."""
    return bool(_documents(root))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; an image that the file does not name is unlabelled.

    Polygons, circles and ellipses become the mask; if one region of an image is a rectangle, all become boxes. The class of a
    region is its attribute called class, label, type, name or defect, or its only one. Attributes of files are classes of the
    image if they are called so.

    Raises:
        DataError: there are several files, or the file is malformed as a whole.
    """
    documents = _documents(root)
    if len(documents) > 1:
        names = ", ".join(path.name for path in documents)
        raise DataError(f"{root}: has {len(documents)} files of VIA ({shorten(names)}); expected one; remove the others")
    path = documents[0]
    warn_of_damaged(root, root.glob("*.json"), documents, context)
    images = AnnotatedImages(root, context)
    entries = _read_csv(path) if path.suffix.lower() == ".csv" else _read_json(path)
    for number, (entry, fault) in enumerate(validate_each(_Image, entries), 1):
        if entry is None:
            images.error(path.name, f"image {number}", fault)
        else:
            _read_image(images, path, entry)
    return list(images.samples())


def _documents(root: Path) -> list[Path]:
    tables = [path for path in sorted(root.glob("*.csv")) if _SHAPES_COLUMN in head(path).partition("\n")[0]]
    return json_files([root], "{", "regions", "file_attributes") + tables


def _read_json(path: Path) -> list[Any]:
    document = read_json(path)
    entries = document.get(_PROJECT, document) if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise DataError(f"{path}: {_PROJECT} is {shorten(repr(entries), 60)}; expected the images by name; export it again")
    return list(entries.values())


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    """Images in the form of the JSON export, from a row for each region."""
    images: dict[str, dict[str, Any]] = {}
    for number, row in read_csv(path)[1:]:
        try:
            file_attributes, shape, attributes = (_Attributes.validate_json(row[column]) for column in _JSON_COLUMNS)
        except (IndexError, ValidationError) as error:
            text = shorten(",".join(row), 80)
            raise DataError(
                f"{path}: line {number} is {text}; expected seven columns, the third, sixth and seventh in JSON; VIA does not "
                "quote commas in file names; export as JSON"
            ) from error
        image = images.setdefault(row[0], {"filename": row[0], "file_attributes": file_attributes, "regions": []})
        if shape:
            image["regions"].append({"shape_attributes": shape, "region_attributes": attributes})
    yield from images.values()


def _read_image(images: AnnotatedImages, path: Path, entry: _Image) -> None:
    file = images.find(path.name, entry.filename, [images.root, images.root / "images"])
    annotated = images.open(file, path.name) if file else None
    if annotated is None:
        return
    regions = entry.regions if isinstance(entry.regions, list) else list(entry.regions.values())
    for number, (region, fault) in enumerate(validate_each(_Region, regions), 1):
        where = f"image {shorten(entry.filename, 80)}, region {number}"
        if region is None:
            annotated.error(f"{where}: {fault}")
        else:
            add_region(annotated, where, class_of(region.region_attributes), partial(_region, region.shape_attributes))
    for key, value in entry.file_attributes.items():
        if value is not None:
            images.add_attribute(annotated, key, value)


def _region(shape: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Outline or box of a region, as arguments of :meth:`AnnotatedImage.add`; raises ValueError if it is malformed."""
    kind = str(shape.get("name"))
    if kind in ("rect", "rectangle"):
        left, top, width, height = _values(shape, "x", "y", "width", "height")
        return {"box": [left, top, left + width, top + height]}
    if kind == "circle":
        x, y, radius = _values(shape, "cx", "cy", "r")
        return {"segmentation": encode_ellipse((x, y), (radius, radius), 0, size)}
    if kind == "ellipse":
        x, y, width, height, radians = _values({"theta": 0, **shape}, "cx", "cy", "rx", "ry", "theta")
        return {"segmentation": encode_ellipse((x, y), (width, height), radians, size)}
    if kind == "polygon":
        x_values, y_values = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(x_values, list) or not isinstance(y_values, list) or len(x_values) != len(y_values):
            raise ValueError("polygon has not as many values of x as of y; both must be lists of numbers")
        return {"segmentation": [[value for pair in zip(x_values, y_values, strict=True) for value in pair]]}
    raise ValueError(no_region(kind))


def _values(shape: dict[str, Any], *keys: str) -> list[float]:
    return numbers(str(shape[key]) if key in shape else None for key in keys)
