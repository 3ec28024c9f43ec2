"""Recent images: in folders, under S3 prefixes, by patterns, or in list files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from adjobs.errors import StorageError
from adjobs.inference.inputs import find_images, list_images
from adjobs.inference.sources import S3, expand_sources
from adjobs.parallel import in_threads
from adjobs.storage import Store, open_store


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
    for source in expand_sources(sources):
        if str(source).startswith(S3):
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


def _list_prefix(uri: str) -> list[_Remote]:
    bucket, _, prefix = uri.removeprefix(S3).rstrip("/").partition("/")
    store = open_store(f"{S3}{bucket}")
    images = list_images(store, prefix)
    if not images:
        raise StorageError(f"{uri}: no images under this address; give the prefix of a folder of images")
    return [_Remote(store, key) for key in images]
