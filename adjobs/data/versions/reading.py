"""Header, records and lists of images of a data set with versions, in a folder or in S3.

::

    adjobs-dataset.json             the header, made when the data set is created
    files/<batch>/…                 images, masks and block grids; a batch is what was added at once
    descriptors/<batch>.npy         what near duplicates of a batch's images are recognised by
    manifests/<sha256>.jsonl        the images of a version, by the checksum of this list
    versions/00000001.json          the record of a version, made by a conditional put: of two writers one succeeds

Nothing is ever changed or deleted. What was written without a record is not part of the data set.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from adjobs.data.versions.entries import VersionedSample, read_entries
from adjobs.data.versions.record import LAYOUT, DatasetHeader, VersionRecord
from adjobs.errors import DamagedError, DataError, one_line
from adjobs.storage import Store, open_store

HEADER = "adjobs-dataset.json"
FILES = "files"
VERSIONS = "versions"

_INVALID = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
Document = TypeVar("Document")


def record_key(number: int) -> str:
    """Key of a version's record."""
    return f"{VERSIONS}/{number:08}.json"


def manifest_key(digest: str) -> str:
    """Key of a list of images with this SHA-256."""
    return f"manifests/{digest}.jsonl"


def is_versioned(store: Store) -> bool:
    """Whether a store holds a data set with versions.

    Raises:
        StorageError: the storage does not answer.
    """
    return store.exists(HEADER)


def read_header(store: Store) -> DatasetHeader:
    """The header.

    Raises:
        DataError: there is none, or it is of a newer version of adjobs.
        DamagedError: it cannot be read.
    """
    if not is_versioned(store):
        raise DataError(
            f"{store.uri()}: is not a data set with versions (it has no {HEADER}); correct the address, or make one with "
            "'adjobs dataset create'"
        )

    def parse(document: Any) -> DatasetHeader:
        layout = document["layout"]
        if type(layout) is not int or layout < 1:
            raise ValueError(f"layout is {layout!r}")
        if layout > LAYOUT:
            raise DataError(
                f"{store.uri()}: was made by a newer version of adjobs (layout {layout}; this one reads {LAYOUT}); update adjobs"
            )
        return DatasetHeader.from_dict(document)

    return _read(store, HEADER, lambda data: parse(json.loads(data)))


def latest_number(store: Store) -> int:
    """Number of the newest version; 0 if there is none yet."""
    names = (entry.key.rpartition("/")[2] for entry in store.list(VERSIONS))
    return max((int(name[:8]) for name in names if re.fullmatch(r"[0-9]{8}\.json", name)), default=0)


def newest_version(uri: str) -> int | None:
    """Number of the newest version of the data set at an address; None if it has no versions, or none is there.

    Raises:
        StorageError: S3 does not answer.
    """
    if "://" in uri and not uri.startswith(("s3://", "file:///")):
        return None
    store = open_store(uri)
    return (latest_number(store) or None) if is_versioned(store) else None


def read_record(store: Store, number: int | None = None) -> VersionRecord:
    """The record of a version, None being the newest.

    Raises:
        DataError: there is no such version.
        DamagedError: it cannot be read.
    """
    latest = latest_number(store)
    wanted = latest if number is None else number
    if not 1 <= wanted <= latest:
        known = f"it has versions 1 to {latest}" if latest else "it has no version yet; add images with 'adjobs dataset add'"
        raise DataError(f"{store.uri()}: {'is empty' if number is None else f'has no version {number}'}; {known}")
    return read_known_record(store, wanted)


def read_known_record(store: Store, number: int) -> VersionRecord:
    """The record of a version that exists.

    Raises:
        DamagedError: it cannot be read.
    """

    def parse(data: bytes) -> VersionRecord:
        record = VersionRecord.from_dict(json.loads(data))
        if record.number != number:
            raise ValueError(f"it holds version {record.number}")
        return record

    if not store.exists(record_key(number)):
        raise DamagedError(f"{store.uri(record_key(number))}: is missing, though later versions exist; restore it from a backup")
    return _read(store, record_key(number), parse)


def read_manifest(store: Store, record: VersionRecord) -> tuple[VersionedSample, ...]:
    """The images of a version, sorted by id.

    Raises:
        DamagedError: the list cannot be read.
    """

    def parse(data: bytes) -> tuple[VersionedSample, ...]:
        if hashlib.sha256(data).hexdigest() != record.manifest:
            raise ValueError("its checksum is another")
        return read_entries(data)

    key = manifest_key(record.manifest)
    if not store.exists(key):
        raise DamagedError(f"{store.uri(key)}: is missing, which version {record.number} lists its images in; restore it")
    return _read(store, key, parse)


def _read(store: Store, key: str, parse: Callable[[bytes], Document]) -> Document:
    try:
        return parse(store.read(key))
    except _INVALID as error:
        raise DamagedError(f"{store.uri(key)}: is damaged ({one_line(error)}); restore it from a backup") from error
