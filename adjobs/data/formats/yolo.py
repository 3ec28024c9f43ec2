"""YOLO annotations: a text file for each image, with a line for each defect."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from adjobs.data.dataset import Sample
from adjobs.data.images import ImageError, image_size
from adjobs.data.labels.masks import Box, Mask, Shapes
from adjobs.data.walk import SPLITS, files_under, image_files, read_text, refuse_strays, stem, type_name
from adjobs.errors import DataError, one_line

NAME = "yolo"
DESCRIPTION = (
    "images/x.jpg, labels/x.txt (or with train/, val/, test/ in or around both), names in data.yaml; without .txt is good"
)

_SLACK = 0.01  # shares of the image that exporters' rounding leaves outside it


class _Shape(NamedTuple):
    """A line of a label file: ``points`` are x and y in turn, as shares of the image; two of them are a box's corners."""

    number: int
    points: list[float]

    @property
    def corners(self) -> tuple[float, float, float, float]:
        x, y = self.points[::2], self.points[1::2]
        return min(x), min(y), max(x), max(y)


def recognises(root: Path) -> bool:
    """Whether there are ``images`` and ``labels`` side by side, and a text file in ``labels``, which may also hold masks."""
    return any(images.is_dir() and bool(_texts(labels)) for images, labels, _ in _places(root))


def read(root: Path) -> list[Sample]:
    """List the samples. An image with an empty label file or none is good, as YOLO has it.

    Images whose whole label folder is missing are unlabelled. Outlines become a mask; where a line is a box, all become boxes.
    The defect type is the class of the largest.

    Raises:
        DataError: a label file belongs to no image, or a line is malformed.
    """
    name_of = _names(root)
    samples: list[Sample] = []
    for images, labels, part in _places(root):
        if images.is_dir():
            samples.extend(_samples(root, images, labels, part, name_of))
    refuse_strays(root, sorted(set(image_files(root)) - {sample.image for sample in samples}), DESCRIPTION)
    return samples


def _places(root: Path) -> list[tuple[Path, Path, str | None]]:
    """Folders of images and labels, and the part they are."""
    images, labels = root / "images", root / "labels"
    inner: list[tuple[Path, Path, str | None]] = [
        (images / name, labels / name, part) for name, part in SPLITS.items() if (images / name).is_dir()
    ]
    outer = [(root / name / "images", root / name / "labels", part) for name, part in SPLITS.items()]
    return [*(inner or [(images, labels, None)]), *outer]


def _samples(root: Path, images: Path, labels: Path, part: str | None, name_of: Callable[[int], str | None]) -> list[Sample]:
    texts = {stem(path, labels): path for path in _texts(labels)}
    samples: list[Sample] = []
    seen: dict[str, Path] = {}
    for image in image_files(images):
        name = stem(image, images)
        if seen.setdefault(name, image) != image:
            both = " and ".join(path.relative_to(root).as_posix() for path in (seen[name], image))
            raise DataError(f"{root}: {both} would have one label file, {name}.txt; rename one of the two, or remove it")
        path = texts.pop(name, None)
        shapes = _lines(path, name_of) if path else []
        samples.append(_sample(root, image, part, shapes, name_of) if labels.is_dir() else _unlabelled(root, image, part))
    texts.pop("classes", None)  # labelImg keeps the names here
    if texts:
        name = next(iter(texts.values())).relative_to(root).as_posix()
        raise DataError(
            f"{root}: {name} belongs to no image (one of {len(texts)}); labels/x.txt is for images/x.jpg; rename or remove it"
        )
    return samples


def _texts(labels: Path) -> list[Path]:
    return files_under(labels, lambda path: path.suffix.lower() == ".txt" and not path.name.startswith("."))


def _unlabelled(root: Path, image: Path, part: str | None) -> Sample:
    return Sample(image.relative_to(root).as_posix(), image, "unlabelled", published_split=part)


def _sample(root: Path, image: Path, part: str | None, shapes: list[_Shape], name_of: Callable[[int], str | None]) -> Sample:
    mask: Mask | None = None
    boxes, defect = None, ""
    if shapes:
        with suppress(ImageError):  # the check of the data names all images that cannot be read, and they can be left out
            mask, boxes = _drawn(shapes, *image_size(image))
        largest = max(shapes, key=lambda shape: _area(*shape.corners))
        defect = name_of(largest.number) or ""
    name = image.relative_to(root).as_posix()
    return Sample(name, image, "anomalous" if shapes else "normal", mask, defect, published_split=part, boxes=boxes)


def _drawn(shapes: list[_Shape], width: int, height: int) -> tuple[Mask | None, tuple[Box, ...] | None]:
    """Outlines in pixels, or boxes where one shape is a box."""
    if all(len(shape.points) > 4 for shape in shapes):
        return Shapes(tuple(json.dumps([_pixels(shape.points, width, height)]) for shape in shapes), width, height), None
    return None, tuple(Box(*_pixels(shape.corners, width, height)) for shape in shapes)


def _area(left: float, top: float, right: float, bottom: float) -> float:
    return (right - left) * (bottom - top)


def _pixels(points: list[float] | tuple[float, ...], width: int, height: int) -> list[float]:
    """Shares to pixels inside the image, rounded: six digits after the point are exact to a few hundredths of a pixel."""
    return [round(min(max(value, 0), 1) * (height if i % 2 else width), 2) for i, value in enumerate(points)]


def _lines(path: Path, name_of: Callable[[int], str | None]) -> list[_Shape]:
    shapes = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            try:
                shapes.append(_shape(line, name_of))
            except ValueError as error:
                need = "allowed is '<class> <x> <y> <width> <height>' or '<class> <x1> <y1> <x2> <y2> <x3> <y3> …' in shares of 1"
                raise DataError(
                    f"{path}: line {number} is {line.strip()[:60]!r} ({one_line(error)}); {need}; correct it"
                ) from error
    return shapes


def _shape(line: str, name_of: Callable[[int], str | None]) -> _Shape:
    first, *rest = line.split()
    number, values = int(first), [float(value) for value in rest]
    if name_of(number) is None:
        raise ValueError(f"class {number} has no name")
    if len(values) == 4:
        x, y, width, height = values
        values = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    elif len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} numbers after the class")
    if not all(-_SLACK <= value <= 1 + _SLACK for value in values):
        raise ValueError("outside the image")
    shape = _Shape(number, values)
    if not _area(*shape.corners) > 0:
        raise ValueError("without area")
    return shape


def _names(root: Path) -> Callable[[int], str | None]:
    """Gives the name of a class; None where the list of names lacks it. Without a list, classes are called by number."""
    for path in (root / "data.yaml", root / "dataset.yaml"):
        if path.is_file():
            return _from_yaml(path)
    for path in (root / "classes.txt", root / "labels" / "classes.txt"):
        if path.is_file():
            lines = read_text(path).split("\n")
            return lambda number: type_name(lines[number]) if 0 <= number < len(lines) and lines[number].strip() else None
    return lambda number: f"class {number}" if number >= 0 else None


def _from_yaml(path: Path) -> Callable[[int], str | None]:
    try:
        document = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: is no YAML ({one_line(error)}); correct it") from error
    names: Any = document.get("names") if isinstance(document, dict) else None
    if not isinstance(names, list | dict):
        raise DataError(f"{path}: names is {repr(names)[:60]}; allowed is a list, or a name for each class number; correct it")
    by_number = dict(enumerate(names)) if isinstance(names, list) else names
    return lambda number: type_name(str(by_number[number])) if number in by_number else None
