"""Arrays on disk that are written in chunks and read through a memory map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from adjobs.data.cache.build_once import flush


def write_array(path: Path, count: int, chunks: Iterator[np.ndarray]) -> None:
    """Write an array of ``count`` rows in chunks.

    Not through a memory map, which kills the process if the disk is full.
    """
    with path.open("wb") as file:
        for i, chunk in enumerate(chunks):
            if not i:
                descr = np.lib.format.dtype_to_descr(chunk.dtype)
                header = {"descr": descr, "fortran_order": False, "shape": (count, *chunk.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(chunk).tobytes())
        flush(file)


def map_array(path: Path) -> np.ndarray | None:
    """Map an array that was written; None if it is missing or damaged. Changes to it stay in this process."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="c")  # copy-on-write, since tensors cannot be read-only
    except (OSError, ValueError, EOFError):
        return None
    return array
