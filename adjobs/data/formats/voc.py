"""Pascal VOC: an XML file for each image, and masks, as CVAT, Datumaro, Roboflow, supervision and labelImg write them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from adjobs.data.annotation_files import AnnotatedImages, add_region, head, numbers, published_split, read_xml
from adjobs.data.annotations import AnnotatedImage
from adjobs.data.dataset import Sample
from adjobs.data.labels import polygons
from adjobs.data.labels.voc_masks import ClassColors, read_class_mask
from adjobs.data.reading import ReadContext
from adjobs.data.walk import files_under, is_image, read_text, relative_stem, subfolders
from adjobs.errors import DataError

NAME = "voc"
DESCRIPTION = "Annotations/x.xml (or x.xml beside x.jpg), JPEGImages/x.jpg, SegmentationClass/x.png; without objects is normal"

_ANNOTATIONS, _LISTS = "Annotations", "ImageSets"
_MASKS = ("SegmentationClass", "SegmentationObject")
_OPENED = 5  # files of a folder that show whether it is VOC's


def recognises(root: Path) -> bool:
    """Whether there are lists or masks of VOC, or one of the first XML files of the folder or a subfolder is VOC's."""
    if not root.is_dir():
        return False
    if (root / _LISTS).is_dir() or any((root / name).is_dir() for name in _MASKS):
        return True
    nested = subfolders(root / _ANNOTATIONS)
    return any(_is_voc(path) for folder in [root, *subfolders(root), *nested] for path in sorted(folder.glob("*.xml"))[:_OPENED])


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; an image that has neither XML file nor mask, and that no list in ``ImageSets`` names, is unlabelled.

    The mask in ``SegmentationClass`` is used, otherwise polygons, otherwise boxes. Objects that are difficult, truncated or
    occluded are defects like others. A class list of ``ImageSets/Main`` (``scratch_train.txt``) gives the class of an image
    without objects.
    """
    return _Reader(root, context).samples()


def _is_voc(path: Path) -> bool:
    text = head(path)
    return _has_root(text) and ("<size" in text or "<bndbox>" in text)


def _has_root(text: str) -> bool:
    return "<annotation>" in text or "<annotation " in text  # labelImg writes verified="yes" there


class _Reader:
    """Reads one data set; a name is an image's path in its folder of images, without suffix."""

    def __init__(self, root: Path, context: ReadContext) -> None:
        self._root, self._context = root, context
        self._masks = {
            relative_stem(path, root / folder): path
            for folder in reversed(_MASKS)
            for path in files_under(root / folder, is_image, context)
        }
        self._images = AnnotatedImages(root, context, without=_MASKS)
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for path in self._images.finder.paths:
            name = relative_stem(path, root)
            for key in {name, name.partition("/")[2]}:  # without the folder of images, whatever it is called
                self._stems[key].append(path)
        self._colors = ClassColors.read(root / "labelmap.txt")
        self._listed, self._tags = _read_lists(root / _LISTS)

    def samples(self) -> list[Sample]:
        """The samples of all images; whatever is wrong is recorded."""
        documents = {
            path: path.relative_to(self._root / _ANNOTATIONS if self._has_folder(path) else self._root).with_suffix("").as_posix()
            for path in files_under(self._root, lambda path: path.suffix.lower() == ".xml", self._context)
            if self._is_document(path)
        }
        for path, name in documents.items():
            self._read_document(path, name)
        for name in sorted({*self._masks, *self._listed} - set(documents.values())):
            source = self._masks.get(name, self._root / _LISTS)
            file = self._find(self._name(source), name)
            if file is not None:
                self._read_image(file, name, source, None)
        self._report_lost(set(documents.values()))
        return list(self._images.samples())

    def _report_lost(self, documents: set[str]) -> None:
        """Warn of images whose polygons Datumaro has left out: it lists them, but not where it lists those without objects."""
        layout = self._root / _LISTS / "Layout"
        without = {line.strip() for path in sorted(layout.glob("*.txt")) for line in read_text(path).splitlines()}
        lost = sorted(self._listed.keys() - documents - self._masks.keys() - without - self._tags.keys())
        if lost and (without or not (documents or self._masks)):
            message = (
                f"{len(lost)} images, such as {lost[0]}, have no annotation, but lists in {_LISTS}; Datumaro writes nothing else "
                "for images with polygons; they are taken as normal; if they have defects, export as Datumaro or COCO instead"
            )
            self._context.warn_once("annotations lost", message)

    def _is_document(self, path: Path) -> bool:
        """Whether a file is VOC's, or may have been: one that is empty or cut off must not leave its image unlabelled."""
        if _is_voc(path) or (self._has_folder(path) and _has_root(head(path))):
            return True
        if not self._has_folder(path) and self._by_stem(relative_stem(path, self._root)) is None:
            return False  # of something else
        try:
            read_xml(path)
        except DataError:
            return True
        return False

    def _has_folder(self, path: Path) -> bool:
        return path.relative_to(self._root).parts[0] == _ANNOTATIONS

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _read_document(self, path: Path, name: str) -> None:
        try:
            document = read_xml(path)
        except DataError as error:
            file = self._by_stem(name)
            self._images.invalid(file, self._name(path), str(error))
            return
        file = self._by_stem(name) or self._find(self._name(path), document.findtext("filename") or name)
        if file is not None:
            self._read_image(file, name, path, document)

    def _by_stem(self, name: str) -> Path | None:
        """The only image of this name."""
        paths = self._stems.get(name, [])
        exact = [path for path in paths if relative_stem(path, self._root) == name]
        matches = exact or paths
        return matches[0] if len(matches) == 1 else None

    def _find(self, source: str, name: str) -> Path | None:
        return self._by_stem(name) or self._images.find(source, name, [self._root / "JPEGImages", self._root])

    def _read_image(self, file: Path, name: str, source: Path, document: Element | None) -> None:
        size = (document.findtext("size/width"), document.findtext("size/height")) if document is not None else (None, None)
        splits = sorted(self._listed.get(name, ()))
        annotated = self._images.open(file, self._name(source), size, next(iter(splits), None))
        if annotated is None:
            return
        if len(splits) > 1:
            annotated.error(f"the lists in {_LISTS} name the image for {' and '.join(splits)}; an image belongs to one split")
        objects = document.findall("object") if document is not None else []
        covered = self._add_mask(annotated, name, {(entry.findtext("name") or "").strip() for entry in objects})
        for number, entry in enumerate(objects, 1):
            _add_object(annotated, f"object {number}", entry, covered)
        if not objects and covered is None:
            for tag in self._tags.get(name, []):
                annotated.tag(tag)

    def _add_mask(self, annotated: AnnotatedImage, name: str, classes: set[str]) -> np.ndarray | None:
        """Add the classes of an image's mask; returns the pixels that it marks, None without mask.

        Args:
            annotated: the image.
            name: of its mask.
            classes: of its objects; if there is one, pixels whose colour has no class are of it.
        """
        path = self._masks.get(name)
        if path is None or annotated.size is None:
            return None
        covered: np.ndarray | None = None
        try:
            colors = self._colors if path.is_relative_to(self._root / _MASKS[0]) else ClassColors()
            for label, mask in read_class_mask(path, colors, annotated.size):
                covered = mask if covered is None else covered | mask
                only = next(iter(classes)) if len(classes) == 1 else ""
                annotated.add(self._name(path), label or only, segmentation=polygons.encode(mask))
        except (DataError, ValueError) as error:
            annotated.error(f"mask {self._name(path)}: {error}")
        return covered


def _read_lists(folder: Path) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    """Published splits of each image that a list names, and the classes that lists of classes give them."""
    splits: dict[str, set[str]] = {}
    tags: dict[str, list[str]] = {}
    for path in [*sorted(folder.glob("Segmentation/*.txt")), *sorted(folder.glob("Main/*.txt"))]:
        label, _, subset = path.stem.rpartition("_")
        for line in read_text(path).splitlines():
            # Names may contain spaces.
            name, _, mark = line.rpartition(" ") if label and line[-2:].strip() in ("1", "-1", "0") else (line, "", "")
            name = name.strip()
            if name:
                split = published_split(subset or path.stem)
                splits.setdefault(name, set()).update({split} if split else ())
                if mark == "1":
                    tags.setdefault(name, []).append(label)
    return splits, tags


def _add_object(annotated: AnnotatedImage, where: str, entry: Element, covered: np.ndarray | None) -> None:
    """Add an object, unless the mask already marks pixels in its box."""
    if covered is not None and _overlaps(entry, covered):
        return
    add_region(annotated, where, (entry.findtext("name") or "").strip(), partial(_region, entry))


def _overlaps(entry: Element, covered: np.ndarray) -> bool:
    try:
        left, top, right, bottom = (int(max(edge, 0)) for edge in _edges(entry))
    except ValueError:
        return False
    return bool(covered[top:bottom, left:right].any())


def _region(entry: Element, size: tuple[int, int]) -> dict[str, Any]:
    """Outline and box of an object, as arguments of :meth:`AnnotatedImage.add`; raises ValueError if it is malformed."""
    box = _edges(entry)
    points = list(_polygon(entry))
    if points and _bounds(points) == _stated(entry) and all(point.is_integer() for point in points):
        # Supervision counts the centres of pixels from 1.
        points = [point - 1 for point in points]
    return {"box": box, "segmentation": [points] if points else None}


def _bounds(points: list[float]) -> list[float]:
    x, y = points[::2], points[1::2]
    return [min(x), min(y), max(x), max(y)]


def _stated(entry: Element) -> list[float]:
    return numbers(entry.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax"))


def _edges(entry: Element) -> list[float]:
    """Edges of the box: VOC counts the first and last pixel from 1; Datumaro and CVAT write edges, with a decimal point."""
    left, top, right, bottom = _stated(entry)
    are_edges = any("." in (entry.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax"))
    return [left, top, right, bottom] if are_edges else [left - 1, top - 1, right, bottom]


def _polygon(entry: Element) -> Iterator[float]:
    """Coordinates of ``<polygon><x1/><y1/><x2/>…``, in order."""
    element = entry.find("polygon")
    if element is not None:
        texts = {child.tag: child.text for child in element}
        for number in range(1, len(texts) // 2 + 1):
            yield from numbers([texts.get(f"x{number}"), texts.get(f"y{number}")])
