"""What readers of annotation files share: XML files, the images that they name, and attributes of whole images."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from adjobs.data.annotations import INVALID, AnnotatedImage
from adjobs.data.dataset import Sample
from adjobs.data.labels.polygons import are_coordinates
from adjobs.data.lookup import ImageFinder
from adjobs.data.reading import ReadContext, simplify
from adjobs.data.regular_files import open_regular
from adjobs.data.walk import SPLIT_FOLDERS, read_json
from adjobs.errors import DataError, one_line, shorten

_HEAD = 4096  # bytes in which a file shows what it is
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks
_DECLARED_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""")

_CLASS_KEYS = frozenset(
    (
        *("anomaly", "category", "class", "classname", "defect", "defectclass", "defecttype", "label", "labelname", "name"),
        *("object", "quality", "result", "status", "type", "verdict"),
    )
)
"""Names of attributes whose value is a class; compared by :func:`adjobs.data.reading.simplify`."""

_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"", "false", "no", "0", "undefined"})


def published_split(*names: str) -> str | None:
    """The split of the first of these names of subsets or folders that stands for one: ``Train`` and ``val2017`` do.

    >>> published_split("images", "val2017")
    'val'
    """
    splits = (SPLIT_FOLDERS.get(name.casefold().rstrip("0123456789")) for name in names)
    return next(filter(None, splits), None)


def head(path: Path) -> str:
    """The first characters of a text file, without leading white space; "" if it cannot be read."""
    try:
        with open_regular(path) as file:
            data = file.read(_HEAD)
    except OSError:
        return ""
    encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig"  # in others, what is looked for has the same bytes
    return data.decode(encoding, errors="replace").lstrip()


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of an XML file in UTF-8, or else in UTF-16 with a byte order mark, or else in the encoding it declares.

    Raises:
        DataError: it cannot be read, is not valid XML, or declares entities, which can expand to any size or read other files.
    """
    text = _xml_text(path)
    if not text.strip():
        raise DataError(f"{path}: is empty; export it again")
    if "<!DOCTYPE" in text:
        raise DataError(f"{path}: has a DOCTYPE; annotations need none, and it may define entities; remove it")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: is not valid XML ({one_line(error)}); export it again") from error


def _xml_text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            data = file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore it") from error
    declared = _DECLARED_ENCODING.match(data)
    # UTF-8 first: what .NET writes declares UTF-16 in files of UTF-8.
    encodings = ["utf-16"] if data.startswith(_UTF_16) else ["utf-8-sig", *([declared[1].decode()] if declared else [])]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except (UnicodeError, LookupError):  # not of it, or there is no such encoding
            continue
    raise DataError(f"{path}: cannot be read as {' or '.join(encodings)}; export it in UTF-8")


def warn_of_damaged(root: Path, files: Iterable[Path], documents: Iterable[Path], context: ReadContext) -> None:
    """Warn of XML and JSON files beside the documents of a data set that cannot be read: perhaps they held annotations, too."""
    for path in sorted(set(files) - set(documents)):
        try:
            if path.suffix == ".xml":
                read_xml(path)
            else:
                read_json(path)
        except DataError as error:
            reason = str(error).removeprefix(f"{path}: ")
            context.warning("", INVALID, f"{path.relative_to(root).as_posix()} is left out: {reason}")


class AnnotatedImages:
    """The annotated images of a data set, each with its split; what is wrong is recorded as problems.

    Attributes:
        root: the data set's folder.
        finder: looks up images by name.

    Args:
        root: the data set's folder.
        context: of the reader.
        without: folders in it that hold masks.
    """

    def __init__(self, root: Path, context: ReadContext, without: Sequence[str] = ()) -> None:
        self.root = root
        self.finder = ImageFinder(root, context)
        self.finder.paths = [path for path in self.finder.paths if path.relative_to(root).parts[0] not in without]
        self._context = context
        self._images: dict[Path, tuple[AnnotatedImage, str | None]] = {}

    def error(self, source: str, where: str, message: str) -> None:
        """Record an error of what no sample stands for; ``source`` is the annotation file's name."""
        self._context.error(f"{source}: {where}" if where else source, INVALID, f"{message}; fix it or export the file again")

    def find(self, source: str, name: str, folders: Sequence[Path]) -> Path | None:
        """The image that an annotation file names, in the first folder that has it; None, with an error, if there is none.

        Failing that, the only image of this file name in the data set is taken: exports name images by the folders of the
        machine on which they were annotated.
        """
        try:
            file = self.finder.find(name, folders)
        except ValueError:  # absolute, or with ..
            file = None
        if file is None:
            matches = self.finder.named(name.replace("\\", "/").rpartition("/")[2])
            if len(matches) == 1:
                return matches[0]
            reason = f"there are {len(matches)} images of this name" if matches else "there is no such image"
            self.error(source, f"image {shorten(name, 80)}", f"{reason}; copy it to where the file names it")
        return file

    def open(
        self, file: Path, source: str, size: tuple[object, object] = (None, None), split: str | None = None
    ) -> AnnotatedImage | None:
        """Collect the annotations of an image; None, with an error, if another entry was about the same image.

        Args:
            file: the image.
            source: the annotation file's name, for messages.
            size: width and height for which the annotations were drawn, as the file states them; None for the image's own.
            split: published split; None for that of the image's folder.
        """
        if file in self._images:
            self._images[file][0].error("the image is listed twice, each time with annotations of its own")
            return None
        try:
            stated, fault = size_of(*size), ""
        except ValueError as error:
            stated, fault = None, str(error)
        annotated = AnnotatedImage(self._context, self.root, file, source, stated)
        if fault:
            annotated.error(fault)
        self._images[file] = annotated, split or published_split(*file.relative_to(self.root).parts[:-1])
        return annotated

    def invalid(self, file: Path | None, source: str, message: str) -> None:
        """Record that an annotation file of one image cannot be read; the image, if it is known, is left with an error."""
        annotated = self.open(file, source) if file else None
        if annotated:
            annotated.error(message)
        else:
            self.error(source, "", message)

    def samples(self) -> Iterator[Sample]:
        """The samples of all images; those without annotation file are unlabelled."""
        for file in self.finder.paths:
            if file in self._images:
                annotated, split = self._images.pop(file)
                yield annotated.sample(published_split=split)
            else:
                folders = file.relative_to(self.root).parts[:-1]
                yield Sample(
                    file.relative_to(self.root).as_posix(), file, "unlabelled", published_split=published_split(*folders)
                )
        # Links out of the data set are not listed, but were found by name.
        yield from (annotated.sample(published_split=split) for annotated, split in self._images.values())

    def add_attribute(self, annotated: AnnotatedImage, key: str, value: object) -> None:
        """Use an attribute of a whole image, which may be its class, or be about something else, such as the camera.

        A key without a value, or with one that means yes, is a class itself; the value is one if the key says so, or if the
        value means normal. Others are left out with a warning. Whether "yes" and "1" are about a defect cannot be known unless
        the key says so, so they are used with a warning.
        """
        text = "true" if value is None or value is True else str(value).strip()
        if isinstance(value, dict):  # of check boxes
            names = [str(name) for name, is_set in value.items() if is_set and simplify(str(is_set)) not in _FALSE]
            for name in names:
                self.add_attribute(annotated, key, name)
        elif simplify(text) in _FALSE:
            return
        elif simplify(text) in _TRUE:
            annotated.tag(key)
            if not (value is None or value is True or simplify(key) in _CLASS_KEYS or self._context.is_normal(key)):
                message = f"attribute '{shorten(key, 60)}' of images is a class of those where it is '{text}'"
                self._context.warn_once("attribute used", f"{message}; remove it if it is about something else")
        elif simplify(key) in _CLASS_KEYS or self._context.is_normal(text):
            annotated.tag(text)
        else:
            message = f"attribute '{shorten(key, 60)}' of images is not used: its name does not say that it is their class"
            self._context.warn_once("attribute not used", f"{message}; if it is, name it 'class'")


def class_of(attributes: dict[str, object]) -> str:
    """The class among the attributes of a region: the only one, or the one whose name says so; "" if there is none.

    >>> class_of({"severity": "2", "defect": "dent"}), class_of({"kind": {"scratch": True, "dent": False}}), class_of({})
    ('dent', 'scratch', '')
    """
    keys = [key for key in attributes if simplify(key) in _CLASS_KEYS] or [*attributes]
    for value in (attributes[key] for key in keys):
        text = "+".join(str(name) for name, is_set in value.items() if is_set) if isinstance(value, dict) else str(value or "")
        if simplify(text) not in _FALSE:
            return text
    return ""


def size_of(width: object, height: object) -> tuple[int, int] | None:
    """Width and height in an annotation file, as numbers or text; None if they are missing or 0, as some exporters write.

    Raises:
        ValueError: they are something else.
    """
    if width in (None, "", 0, "0") or height in (None, "", 0, "0"):
        return None
    try:
        size = int(str(width)), int(str(height))
    except ValueError:
        size = 0, 0
    if min(size) <= 0:
        raise ValueError(f"image size is {str(width)[:20]} x {str(height)[:20]}; expected width and height in pixels")
    return size


def numbers(texts: Iterable[str | None]) -> list[float]:
    """Numbers from texts.

    Raises:
        ValueError: a text is missing or not a finite number.
    """
    texts = list(texts)
    try:
        values = [float(text or "") for text in texts]
    except ValueError:
        values = [math.nan]
    if not all(abs(value) < 1e9 for value in values):
        raise ValueError(f"coordinates are {shorten(repr(texts), 60)}; expected numbers in pixels")
    return values


def points_of(points: Any) -> list[float]:
    """``[x0, y0, x1, y1, …]`` of a list of points.

    Raises:
        ValueError: it is something else, or empty.
    """
    try:
        coordinates = [value for x, y in points for value in (x, y)]
    except (TypeError, ValueError):
        coordinates = []
    if not coordinates or not are_coordinates(coordinates):
        raise ValueError(f"points are {shorten(repr(points), 60)}; expected a list of [x, y] in pixels")
    return coordinates


def add_region(annotated: AnnotatedImage, where: str, name: str, make: Callable[[tuple[int, int]], dict[str, Any]]) -> None:
    """Add an annotation to an image.

    Args:
        annotated: the image.
        where: what the annotation is called in messages.
        name: its class.
        make: returns outline or box as arguments of :meth:`AnnotatedImage.add`, given the image's width and height; its
            ValueError is recorded as an error of the image.
    """
    try:
        region = make(annotated.size) if annotated.size else {}
    except ValueError as error:
        annotated.error(f"{where}: {one_line(error)}")
    else:
        annotated.add(where, name, **region)


def no_region(shape: str) -> str:
    """The message that a kind of shape does not say which pixels are anomalous."""
    return f"shape is '{shorten(shape, 40)}', which marks no area; outline the defect by a polygon, mask, ellipse or box instead"
