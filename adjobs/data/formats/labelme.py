"""LabelMe's JSON: a file for each image, beside it."""

from __future__ import annotations

import math
import posixpath
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from adjobs.data.annotation_files import AnnotatedImages, add_region, head, no_region, points_of
from adjobs.data.dataset import Sample
from adjobs.data.labels.rasters import decode_png, encode_bitmap, encode_ellipse
from adjobs.data.reading import ReadContext
from adjobs.data.walk import files_under, read_json, read_text, subfolders, validate
from adjobs.errors import DataError

NAME = "labelme"
DESCRIPTION = "x.json of LabelMe beside x.jpg, in any folders; .json without shapes is normal, no .json is unlabelled"

_OPENED = 5  # files of a folder that show whether it is LabelMe's


class _Shape(BaseModel):
    label: str
    points: Any
    shape_type: str | None = None
    mask: str | None = None


class _Document(BaseModel):
    shapes: list[_Shape]
    imagePath: str  # noqa: N815
    imageHeight: int | None = None  # noqa: N815
    imageWidth: int | None = None  # noqa: N815
    flags: dict[str, Any] | None = None


def recognises(root: Path) -> bool:
    """Whether one of the first JSON files of the folder or a subfolder is LabelMe's."""
    if not root.is_dir():
        return False
    files = (path for folder in [root, *subfolders(root)] for path in sorted(folder.glob("*.json"))[:_OPENED])
    return any(_is_labelme(head(path)) for path in files)


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; an image without JSON file is unlabelled: nobody has saved it in LabelMe.

    Polygons, circles and masks become the mask; if one shape of an image is a rectangle, all become boxes. Flags of an image
    are its classes; those of shapes are not used.
    """
    images = AnnotatedImages(root, context)
    beside = {image.with_suffix(".json"): image for image in images.finder.paths}
    for path in files_under(root, lambda path: path.suffix.lower() == ".json", context):
        if _is_labelme(head(path)) or _is_labelme(_whole_text(path)) or (path in beside and _may_be_labelme(path)):
            _read_document(images, path, beside.get(path))
    return list(images.samples())


def _is_labelme(text: str) -> bool:
    return text.startswith("{") and '"shapes"' in text and '"flags"' in text


def _may_be_labelme(path: Path) -> bool:
    """Whether a file has shapes, or is damaged: one that is empty or cut off must not leave its image unlabelled."""
    try:
        document = read_json(path)
    except DataError:
        return True
    return isinstance(document, dict) and "shapes" in document


def _whole_text(path: Path) -> str:
    """The text of a file in which other tools may have sorted the keys, without leading white space; "" if it is unreadable."""
    try:
        return read_text(path).lstrip()
    except DataError:
        return ""


def _read_document(images: AnnotatedImages, path: Path, beside: Path | None) -> None:
    source = path.relative_to(images.root).as_posix()
    try:
        document = validate(_Document, read_json(path), path)
    except DataError as error:
        images.invalid(beside, source, str(error))
        return
    folder = path.parent.relative_to(images.root).as_posix()
    name = document.imagePath.replace("\\", "/")
    file = images.find(source, posixpath.normpath(posixpath.join(folder, name)), [images.root])
    if file is None:
        return
    annotated = images.open(file, source, (document.imageWidth, document.imageHeight))
    if annotated is None:
        return
    for number, shape in enumerate(document.shapes, 1):
        add_region(annotated, f"shape {number}", shape.label, partial(_region, shape))
    for flag, is_set in (document.flags or {}).items():
        images.add_attribute(annotated, flag, is_set)


def _region(shape: _Shape, size: tuple[int, int]) -> dict[str, Any]:
    """Outline or box of a shape, as arguments of :meth:`AnnotatedImage.add`; raises ValueError if it is malformed."""
    points, kind = points_of(shape.points), shape.shape_type or "polygon"
    x, y = points[::2], points[1::2]
    if kind == "polygon":
        return {"segmentation": [points]}
    if kind in ("rectangle", "oriented_rectangle"):
        return {"box": [min(x), min(y), max(x), max(y)]}
    if kind == "circle" and len(points) == 4:
        radius = math.dist(points[:2], points[2:])
        return {"segmentation": encode_ellipse((x[0], y[0]), (radius, radius), 0, size)}
    if kind == "mask":
        # The points are the first and the last pixel of the mask.
        return {"segmentation": encode_bitmap(decode_png(shape.mask or ""), int(min(x)), int(min(y)), size)}
    raise ValueError(no_region(kind))
