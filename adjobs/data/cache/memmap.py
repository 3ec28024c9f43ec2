"""Arrays on disk that are written part by part and read through a memory map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from adjobs.data.cache.build_once import flush


def write_array(path: Path, count: int, parts: Iterator[np.ndarray]) -> None:
    """Write ``count`` rows part by part; not through a memory map, which kills the process where the disk is full."""
    with path.open("wb") as file:
        for i, part in enumerate(parts):
            if not i:
                descr = np.lib.format.dtype_to_descr(part.dtype)
                header = {"descr": descr, "fortran_order": False, "shape": (count, *part.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(part).tobytes())
        flush(file)


def map_array(path: Path) -> np.ndarray | None:
    """An array that was written; None where it is not there or damaged. What is changed in it stays in the process."""
    try:
        found: np.ndarray = np.load(path, mmap_mode="c")  # torch knows no read-only memory
    except (OSError, ValueError, EOFError):
        return None
    return found
