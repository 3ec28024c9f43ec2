"""Download a version from S3: what it needs, and of that only what is not in the cache yet."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from adjobs.data.versions.reading import HEADER, manifest_key, read_header, read_manifest, read_record, record_key
from adjobs.parallel import in_threads
from adjobs.storage import Store
from adjobs.storage.base import atomic_write, disk_errors


class FetchedVersion(NamedTuple):
    """A local folder that holds a version, and its number."""

    folder: Path
    number: int


def cache_folder(store: Store, cache: Path) -> Path:
    """Where the objects of a data set are kept; they never change, so that those that are there need not be compared."""
    endpoint = getattr(store, "endpoint", "")
    return cache.absolute() / "versioned" / hashlib.sha256(f"{endpoint}\n{store.uri()}".encode()).hexdigest()[:24]


def fetch_version(store: Store, cache: Path, number: int | None = None) -> FetchedVersion:
    """Download a version, None being the newest; several processes may do so at once.

    Raises:
        DataError: there is no such version.
        StorageError: S3 does not answer, an object is missing or damaged, or the disk is full.
    """
    read_header(store)
    record = read_record(store, number)
    folder = cache_folder(store, cache)
    files = [path for entry in read_manifest(store, record) for path in entry.sample.files]
    keys = [HEADER, manifest_key(record.manifest), *dict.fromkeys(path.as_posix() for path in files)]
    missing = [key for key in keys if not (folder / key).is_file()]
    with disk_errors(f"fetch {store.uri()} into", folder):
        in_threads(lambda key: store.get(key, folder / key), missing, text="fetching", progress=True)
        # The record last: the newest of the folder is one whose files are all there.
        with atomic_write(folder / record_key(record.number)) as temporary:
            temporary.write_bytes(record.to_bytes())
    return FetchedVersion(folder, record.number)
