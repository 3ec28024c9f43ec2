"""Object storage: S3 and local folders behind one interface; no other package imports boto3 or pyarrow.

A key is a relative path with forward slashes. Endpoint and credentials come from the usual ``AWS_*`` variables. Every failure
is a StorageError of one line: what was tried, what the server answered, what to do.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from adjobs.errors import StorageError, choices
from adjobs.storage.base import Entry, Store, check_key
from adjobs.storage.local import LocalStore
from adjobs.storage.mirror import mirror, put_tree
from adjobs.storage.s3 import S3Store

__all__ = ["Entry", "LocalStore", "S3Store", "Store", "check_key", "fetch", "open_store", "put_tree"]


def open_store(uri: str | Path, environment: Mapping[str, str] | None = None) -> Store:
    """Open ``s3://bucket[/prefix]``, ``file:///folder`` or a plain path. No server is contacted yet.

    Args:
        uri: the bucket or folder.
        environment: ``AWS_*`` variables to use instead of those of this process.

    Raises:
        StorageError: unknown scheme, no bucket, or a prefix that is not a relative path.
    """
    scheme, separator, location = str(uri).partition("://")
    if not str(uri).strip():
        raise StorageError("got an empty storage URI; allowed are s3://bucket/prefix, file:///folder or a path")
    if not separator:
        return LocalStore(Path(uri))
    if scheme == "file" and location.startswith("/"):
        return LocalStore(Path(urllib.parse.unquote(location)))
    bucket, _, prefix = location.partition("/")
    if scheme != "s3" or not bucket:
        raise StorageError(
            f"{uri}: not a storage URI (s3://bucket/prefix, file:///folder or a plain path); {choices(scheme, ['file', 's3'])}"
        )
    prefix = prefix.strip("/")
    return S3Store(bucket, check_key(prefix) if prefix else "", environment)


def fetch(uri: str | Path, cache: Path) -> Path:
    """Mirror the objects under an S3 URI into a folder of the cache and return it; a local path is returned unchanged.

    Only new and changed objects are downloaded, and files of deleted objects are deleted. Processes that fetch the same URI wait
    for each other, and the later ones have nothing left to download.

    Raises:
        StorageError: no object under the URI, a key that would leave the folder, or an error of the server or the file system.
    """
    store = open_store(uri)
    return mirror(store, cache) if isinstance(store, S3Store) else Path(store.uri())
