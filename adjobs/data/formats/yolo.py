"""YOLO annotations: one text file for each image, with one line for each defect."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from adjobs.data.dataset import Sample
from adjobs.data.images import ImageError, image_size
from adjobs.data.labels.masks import Box, Mask, Shapes
from adjobs.data.reading import ReadContext
from adjobs.data.walk import SPLIT_FOLDERS, clean_defect_type, files_under, image_files, read_text, refuse_strays, relative_stem
from adjobs.documents import InvalidDocumentError, load_yaml
from adjobs.errors import DataError, one_line

NAME = "yolo"
DESCRIPTION = "images/x.jpg, labels/x.txt (train/, val/, test/ in or around both), names in data.yaml; without .txt is normal"

_TOLERANCE = 0.01  # fraction of the image's size by which coordinates may lie outside it: exporters round


class _Shape(NamedTuple):
    """A line of a label file: ``points`` are x, y, x, y, … as fractions of the image; two points are a box's corners."""

    number: int
    points: list[float]

    @property
    def corners(self) -> tuple[float, float, float, float]:
        x, y = self.points[::2], self.points[1::2]
        return min(x), min(y), max(x), max(y)


def recognises(root: Path) -> bool:
    """Whether there are ``images`` and ``labels`` side by side, with a text file in ``labels``, which might also hold masks."""
    return any(images.is_dir() and bool(_label_files(labels)) for images, labels, _ in _image_folders(root))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples. An image with an empty or missing label file is normal, as usual in YOLO.

    Images are unlabelled if their label folder is missing. Outlines become a mask; if one line is a box, all become boxes.
    The defect type is the class of the largest.

    Raises:
        DataError: a label file belongs to no image, or a line is malformed.
    """
    class_name = _class_names(root)
    samples: list[Sample] = []
    for images, labels, split in _image_folders(root):
        if images.is_dir():
            samples.extend(_samples(root, images, labels, split, class_name, context))
    refuse_strays(root, sorted(set(image_files(root, context)) - {sample.image for sample in samples}), DESCRIPTION)
    return samples


def _image_folders(root: Path) -> list[tuple[Path, Path, str | None]]:
    """Folders of images, their folders of labels, and the split of both."""
    images, labels = root / "images", root / "labels"
    inner: list[tuple[Path, Path, str | None]] = [
        (images / name, labels / name, split) for name, split in SPLIT_FOLDERS.items() if (images / name).is_dir()
    ]
    outer = [(root / name / "images", root / name / "labels", split) for name, split in SPLIT_FOLDERS.items()]
    return [*(inner or [(images, labels, None)]), *outer]


def _samples(
    root: Path, images: Path, labels: Path, split: str | None, class_name: Callable[[int], str | None], context: ReadContext
) -> list[Sample]:
    label_files = {relative_stem(path, labels): path for path in _label_files(labels, context)}
    samples: list[Sample] = []
    image_by_name: dict[str, Path] = {}
    for image in image_files(images, context):
        name = relative_stem(image, images)
        if image_by_name.setdefault(name, image) != image:
            names = " and ".join(path.relative_to(root).as_posix() for path in (image_by_name[name], image))
            raise DataError(f"{root}: {names} would share the label file {name}.txt; rename or remove one of them")
        path = label_files.pop(name, None)
        shapes = _read_shapes(path, class_name) if path else []
        samples.append(_sample(root, image, split, shapes, class_name) if labels.is_dir() else _unlabelled(root, image, split))
    label_files.pop("classes", None)  # labelImg keeps the class names there
    if label_files:
        name = next(iter(label_files.values())).relative_to(root).as_posix()
        raise DataError(
            f"{root}: {name} belongs to no image (one of {len(label_files)}); labels/x.txt is for images/x.jpg; "
            "rename or remove it"
        )
    return samples


def _label_files(labels: Path, context: ReadContext | None = None) -> list[Path]:
    return files_under(labels, lambda path: path.suffix.lower() == ".txt" and not path.name.startswith("."), context)


def _unlabelled(root: Path, image: Path, split: str | None) -> Sample:
    return Sample(image.relative_to(root).as_posix(), image, "unlabelled", published_split=split)


def _sample(root: Path, image: Path, split: str | None, shapes: list[_Shape], class_name: Callable[[int], str | None]) -> Sample:
    mask: Mask | None = None
    boxes, defect = None, ""
    if shapes:
        with suppress(ImageError):  # unreadable images are reported by the check of the data, and can be skipped
            mask, boxes = _masks_or_boxes(shapes, *image_size(image))
        largest = max(shapes, key=lambda shape: _area(*shape.corners))
        defect = class_name(largest.number) or ""
    name = image.relative_to(root).as_posix()
    return Sample(name, image, "anomalous" if shapes else "normal", mask, defect, published_split=split, boxes=boxes)


def _masks_or_boxes(shapes: list[_Shape], width: int, height: int) -> tuple[Mask | None, tuple[Box, ...] | None]:
    """Outlines in pixels, or boxes if one of the shapes is a box."""
    if all(len(shape.points) > 4 for shape in shapes):
        return Shapes(tuple(json.dumps([_pixels(shape.points, width, height)]) for shape in shapes), width, height), None
    return None, tuple(Box(*_pixels(shape.corners, width, height)) for shape in shapes)


def _area(left: float, top: float, right: float, bottom: float) -> float:
    return (right - left) * (bottom - top)


def _pixels(points: list[float] | tuple[float, ...], width: int, height: int) -> list[float]:
    """Fractions to pixels inside the image, rounded: six decimals are exact to a few hundredths of a pixel."""
    return [round(min(max(value, 0), 1) * (height if i % 2 else width), 2) for i, value in enumerate(points)]


def _read_shapes(path: Path, class_name: Callable[[int], str | None]) -> list[_Shape]:
    shapes = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            try:
                shapes.append(_shape(line, class_name))
            except ValueError as error:
                raise DataError(
                    f"{path}: line {number} is {line.strip()[:60]!r} ({one_line(error)}); expected "
                    "'<class> <x> <y> <width> <height>' or '<class> <x1> <y1> <x2> <y2> <x3> <y3> …', from 0 to 1; fix it"
                ) from error
    return shapes


def _shape(line: str, class_name: Callable[[int], str | None]) -> _Shape:
    class_number, *coordinates = line.split()
    number, values = int(class_number), [float(value) for value in coordinates]
    if class_name(number) is None:
        raise ValueError(f"class {number} has no name")
    if len(values) == 4:
        x, y, width, height = values
        values = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    elif len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} numbers after the class")
    if not all(-_TOLERANCE <= value <= 1 + _TOLERANCE for value in values):
        raise ValueError("outside the image")
    shape = _Shape(number, values)
    if not _area(*shape.corners) > 0:
        raise ValueError("no area")
    return shape


def _class_names(root: Path) -> Callable[[int], str | None]:
    """Function from class number to name, None if the list of names lacks it; without a list, classes are named by number."""
    for path in (root / "data.yaml", root / "dataset.yaml"):
        if path.is_file():
            return _read_yaml_names(path)
    for path in (root / "classes.txt", root / "labels" / "classes.txt"):
        if path.is_file():
            lines = read_text(path).split("\n")
            return lambda number: clean_defect_type(lines[number]) if 0 <= number < len(lines) and lines[number].strip() else None
    return lambda number: f"class {number}" if number >= 0 else None


def _read_yaml_names(path: Path) -> Callable[[int], str | None]:
    try:
        document = load_yaml(read_text(path), integer_keys=True)
    except InvalidDocumentError as error:
        raise DataError(f"{path}: is not valid YAML ({error}); fix it") from error
    names: Any = document.get("names") if isinstance(document, dict) else None
    if not isinstance(names, list | dict):
        raise DataError(f"{path}: names is {repr(names)[:60]}; expected a list, or a mapping from class number to name; fix it")
    by_number = dict(enumerate(names)) if isinstance(names, list) else names
    return lambda number: clean_defect_type(str(by_number[number])) if number in by_number else None
