"""Walk data set folders: find image files, pair masks with images by name, and read the lists that name files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from adjobs.data.reading import ReadContext
from adjobs.data.regular_files import open_regular
from adjobs.errors import DataError, one_line, shorten

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"})

_OTHER_SUFFIXES = (
    ".apng .arw .avif .cr2 .cr3 .dcm .dib .dng .exr .gif .hdr .heic .heif .ico .j2k .jp2 .jpg_large .jpg_orig .jpx .jxl .jxr "
    ".nef .npy .pbm .pcx .pfm .pgm .png_large .pnm .ppm .psd .raw .rw2 .svg .tga .wdp"
)
OTHER_IMAGE_SUFFIXES = frozenset(_OTHER_SUFFIXES.split())
"""Suffixes of images that are not read; a data set with such files is read with a warning."""

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Folder names of published splits, and the split that each stands for."""

Model = TypeVar("Model", bound=BaseModel)


def is_image(path: Path) -> bool:
    """Whether the name has an image's suffix and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def image_files(folder: Path, context: ReadContext | None = None) -> list[Path]:
    """All images under ``folder``, found as by :func:`files_under`."""
    return files_under(folder, is_image, context)


def files_under(folder: Path, predicate: Callable[[Path], bool], context: ReadContext | None = None) -> list[Path]:
    """Files under ``folder`` that fulfil ``predicate``, sorted; none if the folder does not exist.

    Hidden folders are skipped; symbolic links are followed, but no folder is entered twice. Broken links are listed: what reads
    them reports them.

    Args:
        folder: where to start.
        predicate: which files are listed.
        context: of the reader: links out of its boundary are not followed, and it records them and the images of other formats.
            Without one, all links are followed.

    Raises:
        DataError: a folder cannot be listed; skipping its files silently would change the data set.
    """
    paths: list[Path] = []
    if not folder.is_dir():
        return paths
    visited: set[Path] = set()
    for parent, folders, names in os.walk(folder, onerror=_refuse_listing, followlinks=True):
        resolved = Path(parent).resolve()
        is_link_to_parent = resolved in visited
        if is_link_to_parent or (context and context.leads_outside(Path(parent))):
            folders.clear()
            continue
        visited.add(resolved)
        # Sorted: which of two links to one folder is followed must not depend on the machine.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(parent) / name for name in names):
            if predicate(path):
                if not (context and path.is_symlink() and context.leads_outside(path)):
                    paths.append(path)
            elif context and path.suffix.lower() in OTHER_IMAGE_SUFFIXES and not path.name.startswith("."):
                context.other_images.add(path)
    return sorted(paths)


def subfolders(folder: Path) -> list[Path]:
    """Folders directly in ``folder`` that are not hidden, sorted; none if the folder does not exist."""
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        _refuse_listing(error)


def relative_stem(path: Path, folder: Path) -> str:
    """Posix path of a file relative to ``folder``, without its suffix."""
    return path.relative_to(folder).with_suffix("").as_posix()


def content_hash(path: Path) -> str:
    """Sha256 of a file, 64 hexadecimal digits.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file or remove it from the data set") from error


def clean_defect_type(text: str) -> str:
    """A defect type's name without commas, which separate names in tables and lists, and with single spaces."""
    return " ".join(text.replace(",", " ").split())


def resolve_inside(root: Path, name: str) -> Path:
    """The path in ``root`` that a list names.

    Raises:
        ValueError: the path is empty, absolute, or leads out of the folder; callers add the file that named it.
    """
    path = Path(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"path {name!r} is not inside the data set; allowed are relative paths without ..")
    return root / path


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise DataError(f"{path}: cannot be read ({reason}); expected a text file in UTF-8; restore it") from error


def read_csv(path: Path) -> list[tuple[int, list[str]]]:
    """Rows of a CSV file that are not empty, each with its line number (its last, where a cell spans several lines).

    Raises:
        DataError: it cannot be read, or is not valid CSV.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        return [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is not valid CSV ({error}); fix its quotes") from error


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        DataError: it cannot be read, or is not valid JSON.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path}: is empty; export it again")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({one_line(error)}); export it again") from error


def validate(model: type[Model], values: Any, path: Path) -> Model:
    """Validate the contents of a JSON file; ``path`` is for error messages.

    Raises:
        DataError: names the first element that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{path}: {_first_fault(error, 'the document')}; fix it or export it again") from error


def validate_each(model: type[Model], elements: Iterable[Any]) -> Iterator[tuple[Model | None, str]]:
    """Each element of a list in a JSON file, validated: itself and "", or None and what is wrong with it."""
    for values in elements:
        try:
            yield model.model_validate(values), ""
        except ValidationError as error:
            yield None, _first_fault(error, "the entry")


def _first_fault(error: ValidationError, whole: str) -> str:
    first = error.errors()[0]
    location = ".".join(map(str, first["loc"])) or whole
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return f"{location} is {shorten(repr(first['input']), 60)}; {reason}"


def json_files(folders: Iterable[Path], opening: str, *keys: str) -> list[Path]:
    """JSON files directly in these folders that start with ``opening`` and contain all keys; the files are not parsed."""
    paths = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.json")) if path.is_file()]
    return [path for path in paths if _is_candidate(path, opening, keys)]


def _is_candidate(path: Path, opening: str, keys: tuple[str, ...]) -> bool:
    try:
        text = read_text(path)
    except DataError:
        return False
    return text.lstrip().startswith(opening) and all(f'"{key}"' in text for key in keys)


def report_strays(root: Path, images: Iterable[Path], allowed: str, context: ReadContext) -> None:
    """Faults of images where the layout allows none: skipping them silently would be misleading."""
    for image in images:
        name = image.relative_to(root).as_posix()
        context.fault(name, f"does not fit the layout; images belong in {allowed}; move or remove it")


class MaskFiles:
    """Mask images under one folder, looked up by their path without suffix; each must belong to exactly one image."""

    def __init__(self, root: Path, folder: Path, context: ReadContext) -> None:
        self._root = root
        self._context = context
        self._paths: dict[str, Path] = {}
        self._used: set[str] = set()
        for path in image_files(folder, context):
            other = self._paths.setdefault(relative_stem(path, folder), path)
            if other != path:
                context.fault(self._name(path), f"is a mask of the same image as {self._name(other)}; keep one")

    def find(self, *stems: str) -> Path | None:
        """The mask for the first of these stems that has one; a fault if it belongs to another image already."""
        for name in stems:
            if name in self._paths:
                if name in self._used:
                    self._context.fault(
                        self._name(self._paths[name]),
                        "is the mask of two images, whose names differ only in their suffix; each mask must belong to one image; "
                        "rename or remove one of the two",
                    )
                self._used.add(name)
                return self._paths[name]
        return None

    def report_unused(self, rule: str) -> None:
        """Faults of masks without an image: a misspelt name would silently leave an anomaly without its mask.

        Where normal images are not required, which is so for images that are added to a data set, each is an error of its own.
        """
        message = f"mask belongs to no image; {rule}; rename or remove it"
        for name in [self._name(path) for stem, path in self._paths.items() if stem not in self._used]:
            if self._context.options.require_normal:
                self._context.fault(name, message)
            else:
                self._context.error(name, "no image", message)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _refuse_listing(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: folder cannot be listed ({error.strerror}); make it readable or remove it") from error
