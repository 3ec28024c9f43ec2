"""The one door to S3, with a local folder as the same interface.

A key is a relative path with forward slashes. Endpoint and credentials come from the usual ``AWS_*`` variables. Whatever
goes wrong below is a StorageError of one line: what was asked, what came back, what to do.
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
    """Open ``s3://bucket[/prefix]``, ``file:///folder`` or a plain path. Nothing is contacted yet.

    Args:
        uri: where.
        environment: ``AWS_*`` variables to use instead of this process's own.

    Raises:
        StorageError: another scheme, no bucket, or a prefix that is no relative path.
    """
    scheme, separator, rest = str(uri).partition("://")
    if not separator:
        return LocalStore(Path(uri))
    if scheme == "file" and rest.startswith("/"):
        return LocalStore(Path(urllib.parse.unquote(rest)))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise StorageError(
            f"{uri}: not a storage address; {choices(scheme, ['file', 's3'])}; "
            "write s3://bucket/prefix, file:///folder or a plain path"
        )
    prefix = prefix.strip("/")
    return S3Store(bucket, check_key(prefix) if prefix else "", environment)


def fetch(uri: str | Path, cache: Path) -> Path:
    """Mirror what lies under an S3 address into a folder of the cache; a local path is returned as it is.

    Only files that are new or changed are fetched, and files that are gone are deleted. Processes that fetch the same
    address wait for each other, and the later ones find everything there.

    Raises:
        StorageError: there is nothing under the address, a key would leave the folder, or the server or the disk refuses.
    """
    store = open_store(uri)
    return mirror(store, cache) if isinstance(store, S3Store) else Path(store.uri())
