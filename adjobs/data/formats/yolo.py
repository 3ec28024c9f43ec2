"""YOLO annotations: one text file for each image, with one line for each defect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from adjobs.data.annotations import INVALID, AnnotatedImage
from adjobs.data.dataset import Sample
from adjobs.data.lookup import normal_form
from adjobs.data.reading import ReadContext
from adjobs.data.walk import SPLIT_FOLDERS, clean_defect_type, files_under, image_files, read_text, relative_stem, report_strays
from adjobs.documents import InvalidDocumentError, load_yaml
from adjobs.errors import DataError, one_line, shown

NAME = "yolo"
DESCRIPTION = "images/x.jpg, labels/x.txt (train/, val/, test/ in or around both), names in data.yaml; without .txt is normal"

_DARKNET = "obj_*_data"  # folders of images with the label files beside them: YOLO 1.1 of CVAT and Datumaro

_TOLERANCE = 0.01  # fraction of the image's size by which coordinates may lie outside it: exporters round

_LINE = "'<class> <x> <y> <width> <height>' or '<class> <x1> <y1> <x2> <y2> <x3> <y3> …', from 0 to 1"


_ENOUGH_LINES = 5  # that could be boxes with key points until a warning says so: an outline may look like one by chance


class _Header(NamedTuple):
    """What the data set's file says of all lines.

    Attributes:
        class_name: function from class number to name, None if there is none of this number.
        key_points: how many numbers of key points follow those of a box; 0 if the lines have none.
    """

    class_name: Callable[[int], str | None]
    key_points: int = 0


class _Shape(NamedTuple):
    """A line of a label file: x, y, x, y, … as fractions of the image; two points are a box's corners."""

    class_name: str
    points: list[float]


def recognises(root: Path) -> bool:
    """Whether there are ``images`` and ``labels`` side by side, with a text file in ``labels``, which might also hold masks."""
    return any(images.is_dir() and bool(_label_files(labels)) for images, labels, _ in _image_folders(root))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples. An image with an empty or missing label file is normal, as usual in YOLO.

    Images are unlabelled if their label folder is missing. Outlines become a mask; if one line is a box, all become boxes.
    The defect type is the class of the largest. A line that is malformed is an error of its image. Of lines for the estimation of
    poses, which ``kpt_shape`` in ``data.yaml`` declares, the boxes are used.

    Raises:
        DataError: the list of class names is malformed.
    """
    reader = _Reader(root, context, _header(root))
    samples = [sample for folders in _image_folders(root) if folders[0].is_dir() for sample in reader.samples(*folders)]
    report_strays(root, sorted(set(image_files(root, context)) - {sample.image for sample in samples}), DESCRIPTION, context)
    reader.report_empty()
    reader.report_poses()
    return samples


def _image_folders(root: Path) -> list[tuple[Path, Path, str | None]]:
    """Folders of images, their folders of labels, and the split of both."""
    images, labels = root / "images", root / "labels"
    inner: list[tuple[Path, Path, str | None]] = [
        (images / name, labels / name, split) for name, split in SPLIT_FOLDERS.items() if (images / name).is_dir()
    ]
    outer = [(root / name / "images", root / name / "labels", split) for name, split in SPLIT_FOLDERS.items()]
    beside = [(folder, folder, SPLIT_FOLDERS.get(folder.name.split("_")[1].lower())) for folder in sorted(root.glob(_DARKNET))]
    return [*(inner or [(images, labels, None)]), *outer, *beside]


@dataclass
class _Reader:
    """Reads folders of images and labels.

    Attributes:
        root: the data set's folder.
        context: of the reader.
        header: what the data set's file says.
        n_empty: images with an empty label file.
        n_missing: images without one.
        n_outlines: lines read as outlines.
        pose_lengths: how many numbers those of them have that could be boxes with key points.
    """

    root: Path
    context: ReadContext
    header: _Header
    n_empty: int = 0
    n_missing: int = 0
    n_outlines: int = 0
    pose_lengths: Counter[int] = field(default_factory=Counter)

    def samples(self, images: Path, labels: Path, split: str | None) -> Iterator[Sample]:
        """The samples of one folder of images."""
        label_files = {normal_form(relative_stem(path, labels)): path for path in _label_files(labels, self.context)}
        files = image_files(images, self.context)
        counts = Counter(normal_form(relative_stem(image, images)) for image in files)
        for image in files:
            if not labels.is_dir():
                yield Sample(self._name(image), image, "unlabelled", published_split=split)
                continue
            name = normal_form(relative_stem(image, images))
            path = label_files.get(name)
            annotated = AnnotatedImage(self.context, self.root, image, self._name(path or labels / f"{name}.txt"))
            if counts[name] > 1:
                annotated.error(f"{counts[name]} images share this label file; names of images must differ without suffix, too")
            has_lines = path is not None and self._add_lines(annotated, path)
            self.n_missing += path is None
            self.n_empty += path is not None and not has_lines
            yield annotated.sample(published_split=split)
        for name in sorted(label_files.keys() - counts.keys() - {"classes"}):  # labelImg keeps the class names there
            message = f"belongs to no image; labels/x.txt is for images/x.jpg in {self._name(images)}/; rename or remove it"
            self.context.error(self._name(label_files[name]), INVALID, message)

    def report_empty(self) -> None:
        """Warn where empty label files look like those of images whose labels an exporter could not write."""
        if self.n_empty and _is_of_label_studio(self.root):
            reason = "Label Studio writes such files also for images with brush strokes or ellipses; export as JSON instead"
        elif self.n_empty and any(self.root.glob(_DARKNET)):
            reason = (
                "Datumaro and CVAT (YOLO 1.1) write such files also for images with polygons or masks; export as COCO instead"
            )
        elif self.n_empty and self.n_missing:
            reason = (
                f"{self.n_missing} others have none, and exporters write empty ones for images with masks or brush strokes; "
                "check some of them"
            )
        else:
            return
        message = f"{self.n_empty} images have an empty label file and are normal, but {reason}"
        self.context.warn_once("empty label files", message)

    def report_poses(self) -> None:
        """Warn where key points were left out, or where all outlines look like boxes with key points."""
        if self.header.key_points:
            message = "data.yaml has kpt_shape: the boxes of the lines are used, their key points are not"
            self.context.warn_once("key points", message)
        elif self.n_outlines >= _ENOUGH_LINES and list(self.pose_lengths.values()) == [self.n_outlines]:
            message = (
                f"all {self.n_outlines} outlines have {next(iter(self.pose_lengths))} numbers and lie inside the box that the "
                "first four would be, as key points do; read as outlines; if they are key points, set kpt_shape in data.yaml"
            )
            self.context.warn_once("key points", message)

    def _add_lines(self, annotated: AnnotatedImage, path: Path) -> bool:
        """Add the lines of a label file; returns whether there are any."""
        try:
            lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
        except DataError as error:
            annotated.error(one_line(error))
            return True
        for number, line in lines:
            try:
                shape = _shape(line, self.header)
            except ValueError as error:
                annotated.error(f"line {number} is {shown(line.strip()[:60])} ({one_line(error)}); expected {_LINE}")
                continue
            points = _pixels(shape.points, *(annotated.size or (1, 1)))
            if len(points) > 4:
                self.n_outlines += 1
                self.pose_lengths.update([len(points)] if _is_like_pose(shape.points) else [])
            labels: dict[str, Any] = {"box": points} if len(points) == 4 else {"segmentation": [points]}
            annotated.add(f"line {number}", shape.class_name, **labels)
        return bool(lines)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _is_of_label_studio(root: Path) -> bool:
    """Whether Label Studio's converter wrote the notes beside the class names."""
    with suppress(DataError):
        return (root / "notes.json").is_file() and "Label Studio" in read_text(root / "notes.json")
    return False


def _label_files(labels: Path, context: ReadContext | None = None) -> list[Path]:
    return files_under(labels, lambda path: path.suffix.lower() == ".txt" and not path.name.startswith("."), context)


def _pixels(points: list[float] | tuple[float, ...], width: int, height: int) -> list[float]:
    """Fractions to pixels inside the image, rounded: six decimals are exact to a few hundredths of a pixel."""
    return [round(min(max(value, 0), 1) * (height if i % 2 else width), 2) for i, value in enumerate(points)]


def _shape(line: str, header: _Header) -> _Shape:
    class_number, *coordinates = line.split()
    number, values = int(class_number), [float(value) for value in coordinates]
    name = header.class_name(number)
    if name is None:
        raise ValueError(f"class {number} has no name")
    if header.key_points:
        if len(values) not in (4, 4 + header.key_points):
            allowed = f"4 or {4 + header.key_points}"
            raise ValueError(f"{len(values)} numbers after the class; by kpt_shape in data.yaml there are {allowed}")
        values = values[:4]
    if len(values) == 4:
        x, y, width, height = values
        values = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    elif len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} numbers after the class")
    if not all(-_TOLERANCE <= value <= 1 + _TOLERANCE for value in values):
        raise ValueError("outside the image")
    if not (min(values[::2]) < max(values[::2]) and min(values[1::2]) < max(values[1::2])):
        raise ValueError("no area")
    return _Shape(name, values)


def _is_like_pose(values: list[float]) -> bool:
    """Whether numbers could be a box, by centre and size, and key points inside it: x, y, or x, y and a flag."""
    x, y, width, height, *rest = values

    def is_inside(point: Sequence[float]) -> bool:
        return abs(point[0] - x) <= width / 2 + _TOLERANCE and abs(point[1] - y) <= height / 2 + _TOLERANCE

    def are_key_points(dimensions: int) -> bool:
        if len(rest) % dimensions:
            return False
        points = [rest[i : i + dimensions] for i in range(0, len(rest), dimensions)]
        # A key point that nobody has marked is 0, 0.
        return all(set(point[2:]) <= {0, 1} and (not any(point[:2]) or is_inside(point)) for point in points)

    return are_key_points(2) or are_key_points(3)


def _header(root: Path) -> _Header:
    """What the file of the data set says; a class that its list of names lacks has none, without a list all are numbered."""
    for path in (root / "data.yaml", root / "dataset.yaml"):
        if path.is_file():
            return _read_yaml(path)
    for path in (root / "classes.txt", root / "labels" / "classes.txt", root / "obj.names"):
        if path.is_file():
            return _Header(_names_by_number({n: line for n, line in enumerate(read_text(path).split("\n")) if line.strip()}))
    return _Header(lambda number: f"class {number}" if number >= 0 else None)


def _read_yaml(path: Path) -> _Header:
    try:
        document = load_yaml(read_text(path), integer_keys=True)
    except InvalidDocumentError as error:
        raise DataError(f"{path}: is not valid YAML ({error}); fix it") from error
    names: Any = document.get("names") if isinstance(document, dict) else None
    if not isinstance(names, list | dict):
        raise DataError(f"{path}: names is {repr(names)[:60]}; expected a list, or a mapping from class number to name; fix it")
    by_number = dict(enumerate(names)) if isinstance(names, list) else names
    key_points = _key_points(path, document.get("kpt_shape"))
    return _Header(_names_by_number(by_number), key_points)


def _names_by_number(names: dict[Any, Any]) -> Callable[[int], str | None]:
    return lambda number: clean_defect_type(str(names[number])) if number in names else None


def _key_points(path: Path, shape: Any) -> int:
    if shape is None:
        return 0
    is_pair = isinstance(shape, list) and len(shape) == 2 and all(type(value) is int for value in shape)
    if not is_pair or shape[0] < 1 or shape[1] not in (2, 3):
        raise DataError(f"{path}: kpt_shape is {repr(shape)[:60]}; expected [number of key points, 2 or 3]; fix or remove it")
    return int(shape[0] * shape[1])
