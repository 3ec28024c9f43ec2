"""Walking data set folders: image files, their names inside the data set, and masks paired by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from adjobs.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def is_image(path: Path) -> bool:
    """Whether the name is that of an image that is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def image_files(folder: Path) -> list[Path]:
    """All images under ``folder``, sorted; hidden files and folders are left out, links are followed once.

    Raises:
        DataError: a folder cannot be listed; leaving its images out silently would change the data set.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    for place, folders, names in os.walk(folder, onerror=_refuse_listing, followlinks=True):
        real = Path(place).resolve()
        if real in seen:  # a link to a folder above itself
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.extend(path for path in (Path(place) / name for name in names) if is_image(path))
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
        for path in image_files(folder) if folder.is_dir() else []:
            other = self._paths.setdefault(stem(path, folder), path)
            if other != path:
                raise DataError(f"{root}: {self._name(other)} and {self._name(path)} are masks of one image; keep one of them")

    def find(self, *stems: str) -> Path | None:
        """The mask with the first of these stems that exists."""
        for name in stems:
            if name in self._paths:
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
