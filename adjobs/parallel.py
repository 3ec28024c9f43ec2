"""Work on many items in threads: hashing, decoding, resizing and sorting all release Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], *, text: str, progress: bool = False) -> list[Result]:
    """Apply ``function`` to all items on all cores, in order.

    The first error is raised, and what has not started is cancelled. Progress is shown on standard error, and only on a terminal.
    """
    with ThreadPoolExecutor(cores()) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in tqdm(futures, desc=text, unit="img", disable=None if progress else True)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
