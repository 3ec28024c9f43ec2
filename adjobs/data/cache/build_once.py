"""Folders that one process of a machine fills and all of them read: decoded images, frozen features, memory banks."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from filelock import AcquireReturnProxy, FileLock, Timeout

from adjobs.errors import StorageError

T = TypeVar("T")

_PATIENCE = 2.0  # seconds of waiting for another process before saying so


def open_or_build(
    folder: Path, read: Callable[[Path], T | None], build: Callable[[Path], None], *, doing: str, progress: bool = True
) -> T:
    """Open a folder, after filling it if nobody has yet.

    It is filled under a lock, beside its place, and renamed: a half-written one never carries the name.

    Args:
        folder: its place; in a folder of its own beside lock and unfinished one.
        read: opens it; None where it is not there or damaged, so that it must be filled again.
        build: fills a new folder.
        doing: what another process does while this one waits for it, such as "decodes the same images".
        progress: say on standard error that it waits.

    Raises:
        OSError: it cannot be written.
        StorageError: what was written cannot be read back.
    """
    found = read(folder)
    if found is not None:
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock"), doing if progress else ""):
        found = read(folder)  # another process may have finished while this one waited
        if found is None:
            _fill(folder, build)
            found = read(folder)
    if found is None:
        raise StorageError(f"{folder}: what was written cannot be read back; check the disk, or choose another (ADJOBS_CACHE)")
    return found


def _fill(folder: Path, build: Callable[[Path], None]) -> None:
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that died; the lock says that none is alive
    unfinished.mkdir()
    try:
        build(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def flush(file: IO[Any]) -> None:
    """Bring a file to the disk, so that after a power failure the renamed folder is not full of zeros."""
    file.flush()
    os.fsync(file.fileno())


def _locked(path: Path, doing: str) -> AcquireReturnProxy[FileLock]:
    """Take a lock until the ``with`` block ends; say so when it must wait for another process."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=_PATIENCE)
    except Timeout:
        if doing:
            print(f"waiting for another process that {doing}", file=sys.stderr)
        return lock.acquire()
