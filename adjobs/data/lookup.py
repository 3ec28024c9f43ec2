"""Find the images that annotation files name."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from adjobs.data.reading import ReadContext
from adjobs.data.walk import image_files, resolve_inside

_NOT_IN_UPLOADS = re.compile(r"[^-\w.]")


def normal_form(name: str) -> str:
    """A file name as names are compared: macOS and some archives write "ä" as two characters (NFD), others as one (NFC)."""
    return unicodedata.normalize("NFC", name)


class ImageFinder:
    """Looks up images of a data set by the names in its annotation files.

    Attributes:
        root: the data set's folder.
        paths: all images in it, sorted; found at the first use.
    """

    def __init__(self, root: Path, context: ReadContext) -> None:
        self.root = root
        self._context = context

    @cached_property
    def paths(self) -> list[Path]:  # noqa: D102 (see the class)
        return image_files(self.root, self._context)

    def find(self, name: str, folders: Sequence[Path]) -> Path | None:
        """The first file of this name in the folders; None if there is none.

        The name is tried as it is, and then in another Unicode form or with the slashes of Windows.

        Raises:
            ValueError: the name is empty, absolute, or leads out of the data set.
        """
        candidates = [resolve_inside(folder, name) for folder in folders]
        for candidate in candidates:
            if _is_file(candidate):
                return candidate
        for candidate in [*candidates, *(resolve_inside(folder, name.replace("\\", "/")) for folder in folders)]:
            key = normal_form(candidate.relative_to(self.root).as_posix())
            if key in self._by_path:
                return self._by_path[key]
        return None

    def named(self, name: str) -> list[Path]:
        """All images with this file name, whatever their folder, in any Unicode form."""
        return self._by_name.get(normal_form(name), [])

    @cached_property
    def _by_path(self) -> dict[str, Path]:
        return {normal_form(path.relative_to(self.root).as_posix()): path for path in self.paths}

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            by_name[normal_form(path.name)].append(path)
        return dict(by_name)


class UploadFinder(ImageFinder):
    """Looks up images also by the names that they get when they are uploaded to a service that runs on Django."""

    def uploaded(self, name: str) -> list[Path]:
        """All images that have this name, or get it: spaces become underscores, signs that are no letters are dropped."""
        return self.named(name) or self._by_upload_name.get(_upload_name(name), [])

    @cached_property
    def _by_upload_name(self) -> dict[str, list[Path]]:
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            by_name[_upload_name(path.name)].append(path)
        return dict(by_name)


def _upload_name(name: str) -> str:
    return _NOT_IN_UPLOADS.sub("", normal_form(name).strip().replace(" ", "_"))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False
