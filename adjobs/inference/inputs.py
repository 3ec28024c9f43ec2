"""Images to predict by name: a path, or the address of an object in S3. Nothing but the names is held of all of them."""

from __future__ import annotations

import glob
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from adjobs.data.reading import ReadContext
from adjobs.data.walk import IMAGE_SUFFIXES, image_files, is_image
from adjobs.errors import DataError, StorageError, shown
from adjobs.inference.sources import S3, expand_sources
from adjobs.storage import Store, open_store
from adjobs.storage.outputs import written_names


class Inputs(NamedTuple):
    """Images to predict.

    Attributes:
        names: paths and ``s3://`` addresses, in the order of the sources.
        outside_links: links that lead out of a folder that was named, and were not followed.
    """

    names: list[str]
    outside_links: list[Path]


class InputImages(NamedTuple):
    """Images to predict.

    Attributes:
        images: in order.
        outside_links: links that lead out of a folder that was named, and were not followed.
    """

    images: list[Path]
    outside_links: list[Path]


def find_images(paths: Sequence[str | Path], *, follow_links: bool = False) -> InputImages:
    """Files that are named, and the images inside named folders, in order.

    In folders the rules of data sets hold: hidden files and folders are left out, and links are followed inside a folder, but not
    out of it. The results of earlier predictions are left out, too.

    Args:
        paths: images and folders. One that is a link itself is followed.
        follow_links: follow links out of folders, too.

    Raises:
        DataError: a path that does not exist, or a folder without images or that cannot be listed.
    """
    result = InputImages([], [])
    for name in paths:
        if not str(name).strip():  # an unset variable of a shell; Path("") is the working directory
            raise DataError(f"'{name}': no such file or folder; give images, or folders of images")
        path = Path(name)
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise DataError(f"'{path}': no such file or folder; give images, or folders of images") from error
        except OSError:  # a name that is too long, a folder that may not be entered: the error of this file, not of all
            is_folder = False
        images, links = _images_in(path, follow_links) if is_folder else InputImages([path], [])
        result.images.extend(images)
        result.outside_links.extend(links)
    return result


def _images_in(folder: Path, follow_links: bool) -> InputImages:
    context = ReadContext(boundary=None if follow_links else folder)
    images = image_files(folder, context)
    outputs = {folder / name for folder in {image.parent for image in images} for name in written_names(folder)}
    inside = [image for image in images if image not in outputs]
    if not inside:
        results = "; results of earlier predictions are left out" if images else ""
        if context.outside_links:
            results += (
                f"; links out of it are left out, such as {min(context.outside_links).name}, unless --follow-links is given"
            )
        raise DataError(f"'{folder}': a folder without images; allowed are {', '.join(sorted(IMAGE_SUFFIXES))}{results}")
    return InputImages(inside, sorted(context.outside_links))


class S3Reader:
    """Reads objects by their addresses; may be called by several threads."""

    def __init__(self) -> None:
        self._stores: dict[str, Store] = {}

    def __call__(self, address: str) -> bytes:
        """The content of an object.

        Raises:
            StorageError: there is none, or S3 cannot be reached or refuses.
        """
        bucket, _, key = address.removeprefix(S3).partition("/")
        return self._stores.setdefault(bucket, open_store(f"{S3}{bucket}")).read(key)


def is_remote(name: str) -> bool:
    """Whether a name is the address of an object."""
    return name.startswith(S3)


def find_inputs(sources: Sequence[str | Path], *, follow_links: bool = False) -> Inputs:
    """The images that sources stand for.

    Args:
        sources: images, folders, ``s3://`` addresses of images or prefixes, patterns, local and in S3, or text files (``.txt``)
            that list the first three; see :func:`adjobs.inference.sources.expand_sources`.
        follow_links: follow links out of folders.

    Raises:
        DataError: a path that does not exist, a folder without images, or a pattern without matches.
        StorageError: no image under an address, or S3 cannot be reached or refuses.
    """
    result = Inputs([], [])
    for source in expand_sources([str(source) for source in sources]):
        if is_remote(str(source)):
            result.names.extend(_addresses(str(source)))
        else:
            images, links = find_images([source], follow_links=follow_links)
            result.names.extend(map(str, images))
            result.outside_links.extend(links)
    return result


def list_images(store: Store, prefix: str) -> list[str]:
    """Keys of the images under a prefix, sorted, or the one that it names; as in folders, hidden ones are left out."""
    keys = (entry.key for entry in store.list(prefix))
    return [key for key in keys if is_image(Path(key)) and not _is_hidden(key, prefix)]


def _addresses(address: str) -> Iterator[str]:
    bucket, _, prefix = address.removeprefix(S3).rstrip("/").partition("/")
    store = open_store(f"{S3}{bucket}")
    images = list_images(store, prefix)
    if not images and glob.has_magic(prefix):
        images = _matches(store, prefix)
        if not images:
            raise DataError(f"{shown(address)}: no image matches the pattern; give images, folders, s3:// prefixes or patterns")
    if not images:
        raise StorageError(f"{address}: no images under this address; give the prefix of a folder of images")
    return (f"{S3}{bucket}/{key}" for key in images)


def _matches(store: Store, pattern: str) -> list[str]:
    """Keys of images that match a pattern; only what is below its folders without wildcards is listed."""
    segments = pattern.split("/")
    fixed = next(index for index, segment in enumerate(segments) if glob.has_magic(segment))
    keys = list_images(store, "/".join(segments[:fixed]))
    return [key for key in keys if _is_match(key.split("/"), segments)]


def _is_match(segments: list[str], pattern: list[str]) -> bool:
    """As for files: a wildcard stays within a folder, but ``**`` is any number of folders."""
    if not pattern or not segments:
        return not pattern and not segments
    if pattern[0] == "**":
        return _is_match(segments, pattern[1:]) or _is_match(segments[1:], pattern)
    return fnmatchcase(segments[0], pattern[0]) and _is_match(segments[1:], pattern[1:])


def _is_hidden(key: str, prefix: str) -> bool:
    """Whether a folder between prefix and image, or the image, is hidden."""
    return any(segment.startswith(".") for segment in key.removeprefix(prefix).split("/"))
