"""What near duplicates of a data set's images are recognised by: computed when they are added, and kept beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from adjobs.data.checks.duplicates import SIDE, Descriptor
from adjobs.data.versions.entries import VersionedSample
from adjobs.data.versions.fetching import cache_folder
from adjobs.errors import DamagedError, one_line
from adjobs.storage import LocalStore, Store
from adjobs.storage.base import disk_errors

_TYPE = np.dtype([("sha256", "u1", 32), ("hash", "<u8"), ("detail", "i1", (SIDE, SIDE))])


def descriptors_key(batch: str) -> str:
    """Key of the descriptors of a batch."""
    return f"descriptors/{batch}.npy"


def write_descriptors(store: Store, batch: str, descriptors: Mapping[str, Descriptor]) -> None:
    """Store the descriptors of a batch's images, given by their SHA-256; those of large batches do not fit in memory.

    Raises:
        StorageError: they cannot be written.
    """
    with disk_errors("write", Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="adjobs-") as folder:
        path = Path(folder) / "descriptors.npy"
        shape = {"descr": np.lib.format.dtype_to_descr(_TYPE), "fortran_order": False, "shape": (len(descriptors),)}
        with path.open("wb") as file:  # not mapped into memory: a full disk would end the process
            np.lib.format.write_array_header_2_0(file, shape)
            for digest in sorted(descriptors):
                file.write(_row(digest, descriptors[digest]))
        store.put(path, descriptors_key(batch))


def _row(digest: str, descriptor: Descriptor) -> bytes:
    row = np.zeros((), dtype=_TYPE)
    row["sha256"] = np.frombuffer(bytes.fromhex(digest), dtype=np.uint8)
    row["hash"], row["detail"] = descriptor.hash, descriptor.load_detail()
    return row.tobytes()


class DescriptorReader:
    """Reads the descriptors of a data set's images; details stay in their files until they are compared.

    Args:
        store: of the data set.
        cache: folder to which they are downloaded from S3; they never change.
    """

    def __init__(self, store: Store, cache: Path) -> None:
        self._store = store
        self._folder = store.root if isinstance(store, LocalStore) else cache_folder(store, cache)
        self._batches: dict[str, dict[bytes, np.void]] = {}

    def read(self, entries: Sequence[VersionedSample]) -> list[Descriptor]:
        """The descriptors of some images, in their order.

        Raises:
            DamagedError: those of a batch cannot be read.
            StorageError: the storage does not answer.
        """
        return [self._read(entry) for entry in entries]

    def _read(self, entry: VersionedSample) -> Descriptor:
        rows = self._batches.get(entry.batch)
        if rows is None:
            rows = self._batches[entry.batch] = self._open(entry.batch)
        row = rows.get(bytes.fromhex(entry.digest))
        if row is None:
            raise DamagedError(f"{self._store.uri(descriptors_key(entry.batch))}: lacks {entry.id}; restore it from a backup")
        return Descriptor(int(row["hash"]), row["detail"])

    def _open(self, batch: str) -> dict[bytes, np.void]:
        key = descriptors_key(batch)
        path = self._folder / key
        if not isinstance(self._store, LocalStore) and not path.is_file():
            self._store.get(key, path)
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DamagedError(f"{path}: is damaged ({one_line(error)}); restore it from a backup") from error
        if rows.dtype != _TYPE or rows.ndim != 1:
            raise DamagedError(f"{path}: is damaged (it holds {rows.dtype}); restore it from a backup")
        return {row["sha256"].tobytes(): row for row in rows}
