"""A data set with versions, in a folder or in S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256

from adjobs.data.versions.entries import VersionedSample, count_entries, fingerprint_of_entries, write_entries
from adjobs.data.versions.reading import (
    latest_number,
    manifest_key,
    read_header,
    read_known_record,
    read_manifest,
    read_record,
    record_key,
)
from adjobs.data.versions.record import DatasetHeader, SetAside, SplitCount, VersionRecord
from adjobs.storage import Store, open_store

__all__ = ["SetAside", "SplitCount", "VersionRecord", "VersionedDataset", "VersionedSample"]

_THREADS = 16


class VersionedDataset:
    """The versions of a data set.

    All methods raise StorageError if the storage does not answer, and DamagedError if a document cannot be read.

    Attributes:
        store: the folder or S3 prefix that holds it.
        header: what was decided when it was created.
    """

    def __init__(self, store: Store, header: DatasetHeader) -> None:
        self.store = store
        self.header = header

    @classmethod
    def open(cls, uri: str) -> VersionedDataset:
        """The data set of a folder, ``file://`` or ``s3://`` address.

        Raises:
            DataError: there is none, or it is of a newer version of adjobs.
        """
        store = open_store(uri)
        return cls(store, read_header(store))

    @property
    def uri(self) -> str:
        """Its address."""
        return self.store.uri()

    def latest(self) -> VersionRecord | None:
        """The newest version; None if there is none yet."""
        number = latest_number(self.store)
        return read_known_record(self.store, number) if number else None

    def record(self, number: int | None = None) -> VersionRecord:
        """A version, None being the newest.

        Raises:
            DataError: there is no such version.
        """
        return read_record(self.store, number)

    def records(self) -> tuple[VersionRecord, ...]:
        """All versions, by number."""
        with ThreadPoolExecutor(_THREADS) as pool:
            numbers = range(1, latest_number(self.store) + 1)
            return tuple(pool.map(lambda number: read_known_record(self.store, number), numbers))

    def samples(self, number: int | None = None) -> tuple[VersionedSample, ...]:
        """The images of a version, None being the newest, sorted by id; no image is read.

        Raises:
            DataError: there is no such version.
        """
        return read_manifest(self.store, self.record(number))

    def append(self, record: VersionRecord, entries: tuple[VersionedSample, ...]) -> VersionRecord | None:
        """Add a version, whose files are stored already.

        Args:
            record: the version, with its number; the rest that follows from the images is filled in.
            entries: its images.

        Returns:
            The record as it is stored; None if another writer has added a version of this number meanwhile.
        """
        manifest = write_entries(entries)
        digest = sha256(manifest).hexdigest()
        record = replace(record, manifest=digest, fingerprint=fingerprint_of_entries(entries), counts=count_entries(entries))
        self.store.write(manifest_key(digest), manifest)
        return record if self.store.create(record_key(record.number), record.to_bytes()) else None
