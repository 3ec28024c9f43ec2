"""Where images are: what people write on a command line, before anything is opened."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from adjobs.errors import DataError, shown
from adjobs.paths import expand_home
from adjobs.storage.base import disk_errors

LIST_SUFFIX = ".txt"
S3 = "s3://"


def expand_sources(sources: Sequence[str]) -> Iterator[str | Path]:
    """Images, folders and ``s3://`` addresses, with lists and patterns replaced by what they stand for.

    Args:
        sources: images, folders, ``s3://bucket/prefix``, patterns such as ``line3/*.png``, or text files (``.txt``) with one of
            the first three in each line; relative ones are relative to the list's folder.

    Raises:
        DataError: a pattern without matches, or a list without entries.
        StorageError: a list cannot be read.
    """
    for source in sources:
        path = expand_home(source)
        if path.suffix.lower() == LIST_SUFFIX and path.is_file():
            yield from _read_list(path)
        elif not source.startswith(S3) and glob.has_magic(source) and not path.exists():
            matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute patterns)
            if not matches:
                raise DataError(f"{shown(source)}: no file matches the pattern; give images, folders, s3:// prefixes or patterns")
            yield from map(Path, matches)
        else:
            yield source if source.startswith(S3) else path if source.strip() else source


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
        yield entry if entry.startswith(S3) else path.parent / expand_home(entry)
