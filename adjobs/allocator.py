"""Memory that the C library keeps for this process while networks compute.

A step allocates and frees the same gigabytes as the one before. glibc gives blocks above 32 MiB, and free space at the end of its
heap, back to the kernel at once, and the kernel clears every page that it hands out again: hundreds of thousands in a step. What
that costs depends on the machine. Between intervals, on the other hand, glibc holds free memory in the middle of its heap, which
other processes could use.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# Parameters of mallopt in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER_TRIM = -1  # as a number without sign, the largest
KEPT_BLOCK = 1 << 30  # larger blocks are rare, and fit into a heap with gaps less often
# The largest values that glibc, which adapts both to the blocks that are freed, would come to by itself.
ADAPTED_BLOCK, ADAPTED_TRIM = 32 << 20, 64 << 20

_lock = threading.Lock()
_uses: set[object] = set()  # that go on


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed for the next allocation, in all threads; what is unused at the end goes back to the system.

    Nothing changes where the C library is not glibc. Peaks grow by what does not fit into gaps, by up to 8 % in training.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    use = object()
    with _lock:
        if not _uses:
            libc.mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK)
            libc.mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)
        _uses.add(use)
    try:
        yield
    finally:
        with _lock:
            _uses.remove(use)
            if not _uses:
                libc.mallopt(M_MMAP_THRESHOLD, ADAPTED_BLOCK)
                libc.mallopt(M_TRIM_THRESHOLD, ADAPTED_TRIM)
                libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, if it is glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if all(hasattr(libc, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")) else None
