"""Walking data set folders: image files, their names inside the data set, masks paired by name, and lists that name files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from adjobs.errors import DataError, one_line

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Folder names of published parts, and the part that each is."""

Model = TypeVar("Model", bound=BaseModel)


def is_image(path: Path) -> bool:
    """Whether the name is that of an image that is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def image_files(folder: Path) -> list[Path]:
    """All images under ``folder``, as :func:`files_under` finds them."""
    return files_under(folder, is_image)


def files_under(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """Files under ``folder``, sorted, none if there is no such folder; hidden folders are left out, links followed once.

    Raises:
        DataError: a folder cannot be listed; leaving its files out silently would change the data set.
    """
    found: list[Path] = []
    if not folder.is_dir():
        return found
    seen: set[Path] = set()
    for place, folders, names in os.walk(folder, onerror=_refuse_listing, followlinks=True):
        real = Path(place).resolve()
        if real in seen:  # a link to a folder above itself
            folders.clear()
            continue
        seen.add(real)
        # Sorted: which of two links to one folder is followed must not depend on the machine.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(path for path in (Path(place) / name for name in names) if wanted(path))
    return sorted(found)


def subfolders(folder: Path) -> list[Path]:
    """Folders directly in ``folder`` that are not hidden, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        _refuse_listing(error)


def stem(path: Path, folder: Path) -> str:
    """Posix path of a file relative to ``folder``, without its suffix."""
    return path.relative_to(folder).with_suffix("").as_posix()


def content_hash(path: Path) -> str:
    """Sha256 of a file, 64 hexadecimal digits.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file or take it out of the data set") from error


def type_name(text: str) -> str:
    """The name of a defect type as one word group: no commas, which tables and lists divide by, and single spaces."""
    return " ".join(text.replace(",", " ").split())


def inside(root: Path, name: str) -> Path:
    """The file in ``root`` that a list names.

    Raises:
        ValueError: the path is empty, absolute, or leads out of the folder; the message is for use inside another.
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
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        got = error.strerror if isinstance(error, OSError) else one_line(error)
        raise DataError(f"{path}: cannot be read ({got}); a readable text file in UTF-8 is needed; restore it") from error


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Lines of a CSV file that are not empty: number of the line (of its last, where a cell has several) and cells.

    Raises:
        DataError: it cannot be read, or is no CSV.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        return [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is no CSV ({error}); correct the quotes") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({one_line(error)}); export it again") from error


def validated(model: type[Model], values: Any, path: Path) -> Model:
    """What a JSON file holds, checked.

    Raises:
        DataError: names the first element that is wrong.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        need = first["msg"][:1].lower() + first["msg"][1:]
        raise DataError(f"{path}: {place} is {repr(first['input'])[:60]}; {need}; correct it or export it again") from error


def json_files(folders: Iterable[Path], opening: str, *keys: str) -> list[Path]:
    """JSON files directly in some folders that begin with ``opening`` and have these keys somewhere, without parsing them."""
    paths = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.json")) if path.is_file()]
    return [path for path in paths if _looks_like(path, opening, keys)]


def _looks_like(path: Path, opening: str, keys: tuple[str, ...]) -> bool:
    try:
        text = read_text(path)
    except DataError:
        return False
    return text.lstrip().startswith(opening) and all(f'"{key}"' in text for key in keys)


def refuse_strays(root: Path, images: Iterable[Path], allowed: str) -> None:
    """Refuse images that lie where the layout gives them no meaning: leaving them out silently would mislead.

    Raises:
        DataError: names the first and how many there are.
    """
    strays = [image.relative_to(root).as_posix() for image in images]
    if strays:
        raise DataError(
            f"{root}: {_first(strays)} has no meaning here; images belong in {allowed}; move or remove those elsewhere"
        )


class MaskFiles:
    """Mask images under one folder, found by their path without suffix; each must belong to an image."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._paths: dict[str, Path] = {}
        self._used: set[str] = set()
        for path in image_files(folder):
            other = self._paths.setdefault(stem(path, folder), path)
            if other != path:
                raise DataError(f"{root}: {self._name(other)} and {self._name(path)} are masks of one image; keep one of them")

    def find(self, *stems: str) -> Path | None:
        """The mask with the first of these stems that exists.

        Raises:
            DataError: another image has it already.
        """
        for name in stems:
            if name in self._paths:
                if name in self._used:
                    got = f"mask {self._name(self._paths[name])} belongs to two images, whose names differ in the suffix alone"
                    raise DataError(f"{self._root}: {got}; a mask is that of one image; rename one of the two, or remove it")
                self._used.add(name)
                return self._paths[name]
        return None

    def refuse_unused(self, rule: str) -> None:
        """Refuse masks that no image asked for: a misspelt name would make an anomaly one without mask.

        Raises:
            DataError: names the first and how many there are.
        """
        unused = [self._name(path) for name, path in self._paths.items() if name not in self._used]
        if unused:
            raise DataError(f"{self._root}: mask {_first(unused)} belongs to no image; {rule}; rename or remove it")

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _first(names: list[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def _refuse_listing(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: folder cannot be listed ({error.strerror}); make it readable or take it out") from error
