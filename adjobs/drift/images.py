"""Recent images: in folders, under S3 prefixes, by patterns, or in list files."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from adjobs.data.walk import is_image
from adjobs.errors import DataError, StorageError, shown
from adjobs.inference.files import find_images
from adjobs.parallel import in_threads
from adjobs.paths import expand_home
from adjobs.storage import Store, open_store
from adjobs.storage.base import disk_errors

LIST_SUFFIX = ".txt"
_S3 = "s3://"


class ImageFile(NamedTuple):
    """An image: its path or address as the user knows it, and the local file."""

    name: str
    path: Path


class RecentImages(NamedTuple):
    """Chosen recent images.

    Attributes:
        images: a random subset of them, or all.
        available: number of images that were given.
        outside_links: number of links out of folders that were not followed.
    """

    images: list[ImageFile]
    available: int
    outside_links: int


class _Remote(NamedTuple):
    store: Store
    key: str


@contextmanager
def open_recent_images(
    sources: Sequence[str], limit: int, generator: np.random.Generator, *, follow_links: bool = False
) -> Iterator[RecentImages]:
    """Choose recent images; those of S3 are downloaded, and deleted when the block ends.

    Args:
        sources: images, folders, ``s3://bucket/prefix``, patterns such as ``line3/*.png``, or text files (``.txt``) with one of
            these in each line; relative ones are relative to the list's folder.
        limit: largest number of images; of more a random subset is taken.
        generator: for the subset.
        follow_links: follow symbolic links out of folders.

    Raises:
        DataError: nothing where a source points to, or a folder without images.
        StorageError: S3 cannot be reached or refuses, or the disk does.
    """
    local: list[str | Path] = []
    remote: list[_Remote] = []
    for source in _expand(sources):
        if str(source).startswith(_S3):
            remote += _list_prefix(str(source))
        else:
            local.append(source)
    paths, links = find_images(local, follow_links=follow_links)
    candidates: list[Path | _Remote] = [*dict.fromkeys(paths), *dict.fromkeys(remote)]
    chosen = [candidates[i] for i in choose(len(candidates), limit, generator)]
    with TemporaryDirectory(prefix="adjobs-") as folder:

        def fetch(item: tuple[int, Path | _Remote]) -> ImageFile:
            index, candidate = item
            if isinstance(candidate, Path):
                return ImageFile(str(candidate), candidate)
            path = Path(folder) / f"{index}{PurePosixPath(candidate.key).suffix}"
            candidate.store.get(candidate.key, path)
            return ImageFile(candidate.store.uri(candidate.key), path)

        yield RecentImages(in_threads(fetch, list(enumerate(chosen)), text="downloading"), len(candidates), len(links))


def choose(count: int, limit: int, generator: np.random.Generator) -> list[int]:
    """Indices of at most ``limit`` of ``count`` images, ascending."""
    return list(range(count)) if count <= limit else sorted(generator.permutation(count)[:limit].tolist())


def _expand(sources: Sequence[str]) -> Iterator[str | Path]:
    """Sources with lists and patterns replaced by what they stand for."""
    for source in sources:
        path = expand_home(source)
        if path.suffix.lower() == LIST_SUFFIX and path.is_file():
            yield from _read_list(path)
        elif not source.startswith(_S3) and glob.has_magic(source) and not path.exists():
            matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute patterns)
            if not matches:
                raise DataError(f"{shown(source)}: no file matches the pattern; give images, folders, s3:// prefixes or patterns")
            yield from map(Path, matches)
        else:
            yield source if source.startswith(_S3) else path if source.strip() else source


def _read_list(path: Path) -> Iterator[str | Path]:
    with disk_errors("read", path):
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not UTF-8 text; write one image, folder or s3:// address in each line") from error
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise DataError(f"{path}: lists no images; write one image, folder or s3:// address in each line")
    for entry in entries:
        yield entry if entry.startswith(_S3) else path.parent / expand_home(entry)


def _list_prefix(uri: str) -> list[_Remote]:
    """The images under an S3 prefix, or the one image that it names; as in folders, hidden ones are left out."""
    bucket, _, prefix = uri.removeprefix(_S3).rstrip("/").partition("/")
    store = open_store(f"{_S3}{bucket}")
    keys = [entry.key for entry in store.list(prefix)]
    images = [key for key in keys if is_image(Path(key)) and not _is_hidden(key, prefix)]
    if not images:
        raise StorageError(f"{uri}: no images under this address; give the prefix of a folder of images")
    return [_Remote(store, key) for key in images]


def _is_hidden(key: str, prefix: str) -> bool:
    """Whether a folder between prefix and image is hidden."""
    return any(segment.startswith(".") for segment in key.removeprefix(prefix).split("/"))
