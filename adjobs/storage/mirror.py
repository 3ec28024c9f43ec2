"""Folders: upload to a store, and mirror from S3 into a cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from adjobs.errors import StorageError
from adjobs.storage.base import Entry, Store, atomic_write, check_key, disk_errors
from adjobs.storage.local import files
from adjobs.storage.s3 import THREADS, S3Store

_State = tuple[int, str]  # size and tag of a fetched file


def put_tree(store: Store, folder: Path, prefix: str = "") -> int:
    """Store every file of a folder under a prefix, several at a time, and return their number.

    Raises:
        StorageError: there is no such folder, or a file could not be stored; others may have been stored before.
    """
    if not folder.is_dir():
        raise StorageError(f"cannot store {folder} as {store.uri(prefix)}: no such folder; check the path")
    parent = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    paths = sorted(files(folder))
    with ThreadPoolExecutor(THREADS) as pool:
        # An error leaves the loop, which cancels what has not started.
        for _ in pool.map(lambda path: store.put(path, parent + path.relative_to(folder).as_posix()), paths):
            pass
    return len(paths)


def mirror(store: S3Store, cache: Path) -> Path:
    """Make a folder of the cache equal to a store, one process at a time; see ``adjobs.storage.fetch``."""
    from filelock import FileLock

    name = hashlib.sha256(f"{store.endpoint}\n{store.uri()}".encode()).hexdigest()[:24]
    root = cache.absolute() / "fetched" / name
    with disk_errors(f"fetch {store.uri()} into", root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "lock"):
            _update(store, root / "files", root / "manifest.json")
    return root / "files"


def _update(store: S3Store, folder: Path, manifest: Path) -> None:
    entries = store.list()
    if not entries:
        raise StorageError(
            f"nothing under {store.uri()} at {store.endpoint}; check the URI, which must name a folder, or upload to it"
        )
    keys = {check_key(entry.key) for entry in entries}
    _check_tree(keys)
    previous = _read_manifest(manifest)
    unchanged = {
        entry.key: (entry.size, entry.etag)
        for entry in entries
        if previous.get(entry.key) == (entry.size, entry.etag) == _state(folder / entry.key, entry.etag)
    }
    # Written first without the files that are about to change, so that an interrupted fetch is never taken for a complete one.
    _write_manifest(manifest, unchanged)
    _delete_others(folder, keys)

    def download(entry: Entry) -> tuple[str, _State]:
        etag = store.download(entry.key, folder / entry.key)
        return entry.key, ((folder / entry.key).stat().st_size, etag)

    with ThreadPoolExecutor(THREADS) as pool:
        fetched = dict(pool.map(download, [entry for entry in entries if entry.key not in unchanged]))
    _write_manifest(manifest, unchanged | fetched)


def _check_tree(keys: set[str]) -> None:
    """S3 may hold both ``a`` and ``a/b``; a folder cannot."""
    for key in sorted(keys):
        if clash := next((str(parent) for parent in PurePosixPath(key).parents if str(parent) in keys), None):
            raise StorageError(f"key {key!r} is refused: {clash!r} exists, too, and cannot be both a file and a folder")


def _state(path: Path, etag: str) -> _State | None:
    return (path.stat().st_size, etag) if path.is_file() else None


def _read_manifest(path: Path) -> dict[str, _State]:
    try:
        return {key: (int(size), str(etag)) for key, (size, etag) in json.loads(path.read_text()).items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}  # fetch everything again


def _write_manifest(path: Path, state: Mapping[str, _State]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(state))


def _delete_others(folder: Path, keys: set[str]) -> None:
    """Delete files that are not among the keys, such as those of an interrupted fetch, and empty folders."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            if Path(parent, name).relative_to(folder).as_posix() not in keys:
                Path(parent, name).unlink()
        if not any(Path(parent).iterdir()):
            Path(parent).rmdir()
