"""COCO annotations, as CVAT, Datumaro, Roboflow, Label Studio and others export them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from adjobs.data.annotation_files import published_split, warn_of_damaged
from adjobs.data.annotations import INVALID, AnnotatedImage
from adjobs.data.dataset import Sample
from adjobs.data.lookup import ImageFinder
from adjobs.data.problem import LOST_LABELS
from adjobs.data.reading import ReadContext
from adjobs.data.walk import SPLIT_FOLDERS, json_files, read_json, validate, validate_each
from adjobs.errors import DataError, shorten

NAME = "coco"
DESCRIPTION = (
    "one COCO .json beside the images or in annotations/ (or one per train/, valid/, test/); unannotated images are normal"
)

_INSTANCES = "instances_"
_PANOPTIC = "panoptic_"  # folders of masks beside the documents
_IMAGE_FOLDERS = ("images", "data")  # FiftyOne's is called data


def _whole(value: Any) -> Any:
    """1 for 1.0: table libraries turn a column of numbers into floats when a cell is empty."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Id = Annotated[str, Field(coerce_numbers_to_str=True), BeforeValidator(_whole)]
_Side = Annotated[int, Field(ge=0)] | None


class _Image(BaseModel):
    id: _Id
    file_name: str
    width: _Side = None
    height: _Side = None


class _Category(BaseModel):
    id: _Id
    name: str


class _Annotation(BaseModel):
    id: _Id = "without id"
    image_id: _Id
    category_id: _Id
    bbox: Any = None
    segmentation: Any = None
    area: Any = None


class _Document(BaseModel):
    images: list[Any]
    annotations: list[Any]
    categories: list[_Category]
    info: Any = None


def recognises(root: Path) -> bool:
    """Whether a JSON file has ``images`` and ``annotations``."""
    return bool(_documents(root))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; an image that no document names is unlabelled.

    The defect type is the category of the largest annotation. If one annotation of an image has no segmentation, the image
    gets the boxes of all of them, since outlines would declare the remaining pixels normal. Crowds are defects like others.

    Raises:
        DataError: a document is malformed as a whole, or there are several that are not of different subsets.
    """
    documents = _documents(root)
    if len(documents) > 1 and not all(_subset(root, path) for path in documents):
        names = ", ".join(path.relative_to(root).as_posix() for path in documents)
        raise DataError(
            f"{root}: has {len(documents)} COCO files ({shorten(names)}); expected one, one per split folder, or "
            f"annotations/{_INSTANCES}<subset>.json; merge them"
        )
    warn_of_damaged(root, (path for folder in _folders(root) for path in folder.glob("*.json")), _all_documents(root), context)
    images = ImageFinder(root, context)
    readers = [_Reader(path, images, context) for path in documents]
    samples = [sample for reader in readers for sample in reader.samples()]
    named = {sample.id for sample in samples} | {problem.sample for problem in context.problems}
    unlisted = [image for image in images.paths if image.relative_to(root).as_posix() not in named]
    unlisted = [image for image in unlisted if not image.parent.name.startswith(_PANOPTIC)]
    if unlisted and any(reader.is_of_label_studio for reader in readers):
        context.warn_once(
            "unlisted images",
            f"{len(unlisted)} images are not in the COCO file; Label Studio leaves out those with brush strokes or ellipses "
            "and does not say so; they count as unlabelled; export as JSON instead",
        )
    if not any(reader.has_annotations for reader in readers):
        message = "no image has an annotation, so all are normal; if there are defects, the export lost them; export it again"
        context.warn_once(LOST_LABELS, message)
    return samples + [Sample(image.relative_to(root).as_posix(), image, "unlabelled") for image in unlisted]


def _folders(root: Path) -> list[Path]:
    return [root, root / "annotations", *(root / name for name in SPLIT_FOLDERS)]


def _all_documents(root: Path) -> list[Path]:
    return json_files(_folders(root), "{", "images", "annotations")


def _documents(root: Path) -> list[Path]:
    """The documents; beside ``instances_*.json``, others of the same folder are about the same images (captions, key points)."""
    paths = _all_documents(root)
    with_instances = {path.parent for path in paths if path.name.startswith(_INSTANCES)}
    return [path for path in paths if path.parent not in with_instances or path.name.startswith(_INSTANCES)]


def _subset(root: Path, path: Path) -> str:
    """The subset of the data set that a document is about, by its folder or its name; "" if neither says."""
    if path.parent != root and path.parent.name in SPLIT_FOLDERS:
        return path.parent.name
    return path.stem.removeprefix(_INSTANCES) if path.name.startswith(_INSTANCES) else ""


class _Reader:
    """Reads one document."""

    def __init__(self, path: Path, images: ImageFinder, context: ReadContext) -> None:
        self._path, self._images, self._context = path, images, context
        self._document = validate(_Document, read_json(path), path)
        self._name = path.relative_to(images.root).as_posix()
        subset = _subset(images.root, path)
        parents = [path.parent, images.root]
        folders = [parent / name for name in ("", *_IMAGE_FOLDERS) for parent in parents]
        # Names of several subsets may be equal, so the subset's own folder comes first.
        self._folders = [folder / subset for folder in reversed(folders) if subset] + folders
        self._subset = subset
        counts = Counter(category.id for category in self._document.categories)
        repeated = [name for name, count in counts.items() if count > 1]
        if repeated:
            raise DataError(
                f"{path}: id {repeated[0]} is listed {counts[repeated[0]]} times under categories; ids must be unique; "
                "export the file again"
            )
        self._categories = {category.id: category.name for category in self._document.categories}

    @property
    def is_of_label_studio(self) -> bool:
        """Whether Label Studio's converter wrote the document."""
        info = self._document.info
        return isinstance(info, dict) and "label studio" in str(info.get("contributor")).lower()

    @property
    def has_annotations(self) -> bool:
        """Whether there are annotations at all."""
        return bool(self._document.annotations)

    def samples(self) -> Iterator[Sample]:
        """The samples of all images that can be found; whatever is wrong is recorded."""
        images = list(self._valid_images())
        counts = Counter(image.id for image in images)
        annotations: dict[str, list[_Annotation | str]] = defaultdict(list)
        for number, (annotation, fault) in enumerate(validate_each(_Annotation, self._document.annotations)):
            raw = self._document.annotations[number]
            where = f"annotations.{number}" + (
                f" ({shorten(str(raw['id']), 60)})" if isinstance(raw, dict) and "id" in raw else ""
            )
            image_id = annotation.image_id if annotation else str(raw.get("image_id")) if isinstance(raw, dict) else ""
            if image_id in counts:
                annotations[image_id].append(annotation or f"{where}: {fault}")
            elif annotation:
                self._error(where, f"is of image {shorten(image_id, 60)}, which is not listed under images")
            else:  # it is unknown which image is not normal
                self._context.error("", INVALID, f"{self._name}: {where}: {fault}; fix it or export the file again")
        for image in images:
            file = self._find(image)
            if file is not None:
                yield self._sample(file, image, annotations.get(image.id, []), counts[image.id])

    def _valid_images(self) -> Iterator[_Image]:
        for number, (image, fault) in enumerate(validate_each(_Image, self._document.images)):
            if image is None:
                self._error(f"images.{number}", fault)
            else:
                yield image

    def _error(self, where: str, fault: str) -> None:
        """Record an error of what no sample stands for."""
        self._context.error(f"{self._name}: {where}", INVALID, f"{fault}; fix it or export the file again")

    def _find(self, image: _Image) -> Path | None:
        """The image beside the document, in the root, or in ``images`` of one of them, or in its subset's folder there."""
        try:
            file = self._images.find(image.file_name, self._folders)
        except ValueError as error:
            self._error(f"image {shorten(image.file_name, 80)}", f"{error}; correct file_name")
            return None
        if file is None:
            self._error(f"image {shorten(image.file_name, 80)}", "is neither beside the file nor in images/; copy it there")
        return file

    def _sample(self, file: Path, image: _Image, annotations: list[_Annotation | str], count: int) -> Sample:
        size = (image.width, image.height) if image.width and image.height else None
        annotated = AnnotatedImage(self._context, self._images.root, file, self._path.name, size)
        if count > 1:  # as in files merged by hand; each would get the annotations of both
            annotated.error(f"id {image.id} is listed {count} times under images; ids must be unique")
        for annotation in annotations:
            if isinstance(annotation, str):
                annotated.error(annotation)
                continue
            where = f"annotation {annotation.id}"
            if annotation.category_id not in self._categories:
                annotated.error(f"{where} has the category {annotation.category_id}, which is not listed under categories")
                continue
            annotated.add(
                where,
                self._categories[annotation.category_id],
                segmentation=annotation.segmentation,
                box=_edges(annotation.bbox),
                area=annotation.area,
            )
        folders = file.relative_to(self._images.root).parts[:-1]
        return annotated.sample(published_split=published_split(self._subset, *folders))


def _edges(bbox: Any) -> Any:
    """Left, top, right and bottom of COCO's left, top, width and height; unchanged if it is something else."""
    if isinstance(bbox, list) and len(bbox) == 4 and all(type(value) in (int, float) for value in bbox):
        left, top, width, height = bbox
        return [left, top, left + width, top + height]
    return bbox
