"""Work on many items in threads: hashing, decoding, resizing and sorting all release Python's lock."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

from tqdm import tqdm

from adjobs.waits import waiting_for

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], *, text: str, progress: bool = False) -> list[Result]:
    """Apply ``function`` to all items on all cores, in order.

    The first error is raised, and what has not started is cancelled. Progress is shown on standard error, and only on a terminal;
    elsewhere, work that takes long is announced.
    """
    is_shown = progress and sys.stderr.isatty()
    announced = waiting_for(f"{text}: {len(items)} items") if progress and not is_shown else nullcontext()
    with ThreadPoolExecutor(cores()) as pool, announced:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in tqdm(futures, desc=text, unit="img", disable=not is_shown)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
