"""COCO annotations, as CVAT, Roboflow, Label Studio and others export them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from adjobs.data.dataset import Sample
from adjobs.data.images import refuse_other_size
from adjobs.data.labels import polygons
from adjobs.data.labels.masks import Box, Mask, Shapes
from adjobs.data.reading import ReadContext
from adjobs.data.walk import SPLIT_FOLDERS, clean_defect_type, image_files, json_files, read_json, resolve_inside, validate
from adjobs.errors import DataError

NAME = "coco"
DESCRIPTION = (
    "one COCO .json beside the images or in annotations/ (or one per train/, valid/, test/); unannotated images are normal"
)

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Id = int | str


class _Image(BaseModel):
    id: _Id
    file_name: str
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


class _Category(BaseModel):
    id: _Id
    name: str


class _Annotation(BaseModel):
    id: _Id = "without id"
    image_id: _Id
    category_id: _Id
    bbox: tuple[_Number, _Number, _Number, _Number] | None = None
    segmentation: list[Any] | dict[str, Any] | None = None
    area: _Number | None = None


class _Document(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def recognises(root: Path) -> bool:
    """Whether a JSON file has ``images`` and ``annotations``."""
    return bool(_documents(root))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; an image that no document names is unlabelled.

    The defect type is the category of the largest annotation. If one annotation of an image has no segmentation, the image
    gets the boxes of all of them, since outlines would declare the remaining pixels normal.

    Raises:
        DataError: a document is malformed, or names an image or category that does not exist.
    """
    documents = _documents(root)
    if len(documents) > 1 and not all(path.parent != root and path.parent.name in SPLIT_FOLDERS for path in documents):
        names = ", ".join(path.relative_to(root).as_posix() for path in documents)
        raise DataError(f"{root}: has {len(documents)} COCO files ({names}); expected one, or one per split folder; merge them")
    samples = [sample for path in documents for sample in _read(root, path)]
    named = {sample.id for sample in samples}
    images = {image.relative_to(root).as_posix(): image for image in image_files(root)}
    return samples + [Sample(name, image, "unlabelled") for name, image in images.items() if name not in named]


def _documents(root: Path) -> list[Path]:
    return json_files([root, root / "annotations", *(root / name for name in SPLIT_FOLDERS)], "{", "images", "annotations")


def _read(root: Path, path: Path) -> list[Sample]:
    document = validate(_Document, read_json(path), path)
    _refuse_repeated(path, "images", [image.id for image in document.images])
    _refuse_repeated(path, "categories", [category.id for category in document.categories])
    categories = {category.id: category.name for category in document.categories}
    annotations: dict[_Id, list[_Annotation]] = defaultdict(list)
    for annotation in document.annotations:
        if annotation.category_id not in categories:
            raise DataError(
                f"{path}: annotation {annotation.id} has the category {annotation.category_id}, which is not listed under "
                "categories; add it or export the file again"
            )
        annotations[annotation.image_id].append(annotation)
    for image_id in annotations.keys() - {image.id for image in document.images}:
        raise DataError(
            f"{path}: annotation {annotations[image_id][0].id} is of image {image_id}, which is not listed under images; "
            "export the file again"
        )
    return [_sample(root, path, image, annotations.get(image.id, []), categories) for image in document.images]


def _refuse_repeated(path: Path, key: str, ids: list[_Id]) -> None:
    """Two entries with the same id, as in files merged by hand, would each get the annotations of both."""
    for name, count in Counter(ids).most_common(1):
        if count > 1:
            raise DataError(f"{path}: id {name} is listed {count} times under {key}; ids must be unique; export the file again")


def _sample(root: Path, path: Path, image: _Image, annotations: list[_Annotation], categories: dict[_Id, str]) -> Sample:
    file = _find(root, path, image.file_name)
    name = file.relative_to(root)
    mask, boxes, defect = None, None, ""
    if annotations:
        mask, boxes, largest = _labels(path, image, annotations)
        if boxes:
            try:
                refuse_other_size(file, image.width, image.height)
            except ValueError as error:
                raise DataError(f"{path}: {error}; fix width and height, or export the file again") from error
        defect = clean_defect_type(categories[largest.category_id])
    return Sample(
        id=name.as_posix(),
        image=file,
        label="anomalous" if annotations else "normal",
        mask=mask,
        defect=defect,
        published_split=SPLIT_FOLDERS.get(next((folder for folder in name.parts[:-1] if folder != "images"), "")),
        boxes=boxes,
    )


def _find(root: Path, path: Path, name: str) -> Path:
    """The image of this name beside the document, in the root, or in ``images`` of one of them."""
    try:
        candidates = [resolve_inside(folder, name) for folder in (path.parent, root, path.parent / "images", root / "images")]
    except ValueError as error:
        raise DataError(f"{path}: image {error}; fix file_name") from error
    with suppress(OSError):  # the name may be too long
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    raise DataError(f"{path}: image {name[:80]} is neither beside the file nor in images/; copy it there")


def _labels(path: Path, image: _Image, annotations: list[_Annotation]) -> tuple[Mask | None, tuple[Box, ...] | None, _Annotation]:
    """Outlines, or boxes if any outline is missing, and the largest of the annotations."""
    boxes: list[Box] = []
    for annotation in annotations:
        try:
            boxes.append(_box(image, annotation))
        except ValueError as error:
            raise DataError(f"{path}: annotation {annotation.id}: {error}; fix it or export the file again") from error
    areas = [
        (box.right - box.left) * (box.bottom - box.top) if annotation.area is None else annotation.area
        for annotation, box in zip(annotations, boxes, strict=True)
    ]
    largest = annotations[areas.index(max(areas))]
    if all(annotation.segmentation for annotation in annotations):
        texts = tuple(json.dumps(annotation.segmentation) for annotation in annotations)
        return Shapes(texts, image.width, image.height), None, largest
    return None, tuple(boxes), largest


def _box(image: _Image, annotation: _Annotation) -> Box:
    """The box of an annotation, clipped to the image; raises ValueError if there is none."""
    if annotation.segmentation:
        polygons.check(annotation.segmentation, image.width, image.height)
    if annotation.bbox is not None:
        left, top, width, height = annotation.bbox
        edges = (left, top, left + width, top + height)
    elif annotation.segmentation:
        edges = polygons.bounds(annotation.segmentation, image.width, image.height) or (0, 0, 0, 0)
    else:
        raise ValueError("has neither bbox nor segmentation; one of them is required")
    left, right = (min(max(edge, 0), image.width) for edge in edges[::2])
    top, bottom = (min(max(edge, 0), image.height) for edge in edges[1::2])
    if not (left < right and top < bottom):
        raise ValueError(f"does not overlap the image of {image.width} x {image.height} pixels")
    return Box(left, top, right, bottom)
