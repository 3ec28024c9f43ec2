"""Checksums of the files of a cache, by which it is noticed that one was cut off or has changed since it was written."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

from adjobs.data.cache.build_once import flush

_FILE = "checksums.json"
_BLOCK = 2**20  # bytes
_BLOCKS_AT_OPEN = 16  # of each file, compared each time a cache is opened


def write_checksums(folder: Path) -> None:
    """Add a file with sizes and CRCs of what is in a folder, block by block."""
    paths = (path for path in sorted(folder.iterdir()) if path.is_file())
    document = {path.name: {"size": path.stat().st_size, "crc32": _checksums(path)} for path in paths}
    with (folder / _FILE).open("w", encoding="utf-8") as file:
        json.dump(document, file)
        flush(file)


def is_intact(folder: Path, *, whole: bool = False) -> bool:
    """Whether all files that a folder had are there in their size, with the bytes that were written.

    Args:
        folder: of a cache.
        whole: compare all bytes; otherwise some blocks spread over each file.
    """
    try:
        document = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return all(
            (folder / name).stat().st_size == entry["size"] and _is_equal(folder / name, entry["crc32"], whole)
            for name, entry in document.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _checksums(path: Path) -> list[int]:
    with path.open("rb") as file:
        return [zlib.crc32(block) for block in iter(lambda: file.read(_BLOCK), b"")]


def _is_equal(path: Path, checksums: list[int], whole: bool) -> bool:
    if whole:
        return _checksums(path) == checksums
    count = min(_BLOCKS_AT_OPEN, len(checksums))
    with path.open("rb") as file:
        for index in np.unique(np.linspace(0, len(checksums) - 1, count, dtype=int)).tolist() if count else ():
            file.seek(index * _BLOCK)
            if zlib.crc32(file.read(_BLOCK)) != checksums[index]:
                return False
    return True
