"""Folders that one process of a machine fills and all of them read: decoded images, features, memory banks."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from filelock import AcquireReturnProxy, FileLock, Timeout

from adjobs.errors import StorageError

T = TypeVar("T")
log = logging.getLogger(__name__)

_NOTICE_AFTER = 2.0  # seconds of waiting for another process until a message is logged


def open_or_build(
    folder: Path, read: Callable[[Path], T | None], build: Callable[[Path], None], *, doing: str, progress: bool = True
) -> T:
    """Open a folder, filling it first if necessary.

    The folder is filled under a lock and under a temporary name, and then renamed: a half-written folder never has its
    final name.

    Args:
        folder: its path; lock and unfinished folder are created in the same parent folder.
        read: opens the folder; returns None if it is missing or damaged and must be filled again.
        build: fills a new folder.
        doing: what another process does while this one waits, for example "decodes the same images".
        progress: print a message on standard error when waiting.

    Raises:
        OSError: the folder cannot be written.
        StorageError: what was written cannot be read back.
    """
    content = read(folder)
    if content is not None:
        return content
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock"), doing if progress else ""):
        content = read(folder)  # another process may have filled it in the meantime
        if content is None:
            _fill(folder, build)
            content = read(folder)
    if content is None:
        raise StorageError(
            f"{folder}: cannot be read back after writing; check the disk or choose another cache folder (ADJOBS_CACHE)"
        )
    return content


def _fill(folder: Path, build: Callable[[Path], None]) -> None:
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was killed; the lock excludes a running one
    unfinished.mkdir()
    try:
        build(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def flush(file: IO[Any]) -> None:
    """Write a file through to the disk, so that a power failure cannot leave a renamed folder full of zeros."""
    file.flush()
    os.fsync(file.fileno())


def _locked(path: Path, doing: str) -> AcquireReturnProxy[FileLock]:
    """Acquire a lock for a ``with`` block, with a message when waiting for another process."""
    lock = FileLock(path, mode=0o666)  # other users of the cache lock it, too
    try:
        return lock.acquire(timeout=_NOTICE_AFTER)
    except Timeout:
        if doing:
            log.info("waiting for another process that %s", doing)
        return lock.acquire()
