"""Archives of working directories in the artifact store, named by their SHA-256."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from adjobs.errors import QueueError, StorageError, one_line
from adjobs.queue.packing import MAX_ARCHIVE, MAX_FILES
from adjobs.storage import check_key, open_store
from adjobs.storage.base import Store


class Archives:
    """The archives of working directories."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def open(cls, artifacts: str) -> Self:
        """Those of an artifact store."""
        return cls(open_store(f"{artifacts}/queue/uploads"))

    def has(self, digest: str) -> bool:
        """Whether an archive is complete and stored."""
        return self._store.exists(_key(digest))

    def add(self, digest: str, archive: Path) -> None:
        """Store an archive, unless it is there: all of it, or nothing.

        Raises:
            QueueError: it is no archive of a working directory.
        """
        check_archive(archive)
        if not self.has(digest):
            self._store.put(archive, _key(digest))

    def prune(self, keep: Collection[str]) -> None:
        """Delete all archives but these; a client that has not yet submitted the job that needs one must send it again."""
        kept = {_key(digest) for digest in keep}
        for entry in self._store.list():
            if entry.key not in kept:
                self._store.delete(entry.key)

    @contextmanager
    def fetched(self, digest: str) -> Iterator[Path]:
        """A copy of an archive on this machine.

        Raises:
            StorageError: it is not there any more, or damaged.
        """
        with TemporaryDirectory(prefix="adjobs-upload-") as folder:
            path = Path(folder, "working_dir.zip")
            self._store.get(_key(digest), path)
            with path.open("rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != digest:
                    raise StorageError(f"{self._store.uri(_key(digest))}: is damaged; submit the job again")
            yield path


def ensure_uploaded(archives: Archives, digests: Iterable[str | None]) -> None:
    """Refuse jobs whose working directory is not stored.

    Raises:
        QueueError: names the first that is missing.
    """
    for digest in {digest for digest in digests if digest is not None}:
        if not archives.has(digest):
            raise QueueError(f"working directory {digest[:12]}: was not uploaded, or has been pruned; submit again")


def check_archive(path: Path) -> None:
    """Refuse what is no archive of a working directory, or would be larger when it is unpacked.

    Raises:
        QueueError: says why.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        for entry in entries:
            check_key(entry.filename)
    except (zipfile.error, StorageError, ValueError, OSError) as error:
        raise QueueError(f"the upload is not an archive of files ({one_line(error)}); submit with 'adjobs submit'") from error
    size = sum(entry.file_size for entry in entries)
    if size > MAX_ARCHIVE or len(entries) > MAX_FILES:
        limit = f"{MAX_FILES} files of {MAX_ARCHIVE} bytes are allowed"
        raise QueueError(f"the upload holds {len(entries)} files of {size} bytes, {limit}; leave some out in .adjobsignore")


def _key(digest: str) -> str:
    return f"{digest}.zip"
