"""Uploaded working directories: archives in the artifact store, named by their SHA-256, and the HTTP interface to them."""

from __future__ import annotations

import asyncio
import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Self

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from adjobs.errors import QueueError, StorageError, one_line
from adjobs.queue.access import Submitter
from adjobs.queue.answers import CHANGE, RETRY_SECONDS, describe
from adjobs.queue.packing import MAX_ARCHIVE, MAX_FILES
from adjobs.queue.schemas import UploadResponse
from adjobs.storage import check_key, open_store
from adjobs.storage.base import Store, disk_errors

MAX_AT_ONCE = 4
"""Uploads that are received at the same time: each needs disk space on the queue's machine until it is stored."""

Digest = Annotated[str, Query(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the archive")]


class Uploads:
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
        """Store an archive: all of it, or nothing."""
        self._store.put(archive, _key(digest))

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


def add_uploads(app: FastAPI, uploads: Uploads) -> None:
    """Add the endpoints that take archives of working directories."""
    turn = asyncio.Semaphore(MAX_AT_ONCE)

    @app.get("/api/uploads", responses=describe(UploadResponse, *CHANGE))
    def find(identity: Submitter, sha256: Digest) -> JSONResponse:
        """Whether an archive is stored already."""
        return JSONResponse({"sha256": sha256, "exists": uploads.has(sha256)})

    @app.put("/api/uploads", responses=describe(UploadResponse, *CHANGE))
    async def upload(request: Request, identity: Submitter, sha256: Digest) -> JSONResponse:
        """Store the archive of a working directory, a zip file: all of it, or nothing."""
        if turn.locked():
            detail = f"{MAX_AT_ONCE} uploads are under way; try again in {RETRY_SECONDS} s"
            raise HTTPException(429, detail, {"Retry-After": str(RETRY_SECONDS)})
        async with turn:
            with TemporaryDirectory(prefix="adjobs-upload-") as folder:
                path = Path(folder, "working_dir.zip")
                try:
                    digest = await _receive(request, path)
                except ClientDisconnect as error:  # nobody reads the answer
                    raise QueueError("the client has gone before it had sent everything; submit again") from error
                if digest != sha256:
                    raise QueueError(f"the archive that arrived has the SHA-256 {digest}, not {sha256}; submit again")
                await run_in_threadpool(_store_checked, uploads, sha256, path)
        return JSONResponse({"sha256": sha256, "exists": True})


def ensure_uploaded(uploads: Uploads, digests: Iterable[str | None]) -> None:
    """Refuse jobs whose working directory is not stored.

    Raises:
        QueueError: names the first that is missing.
    """
    for digest in {digest for digest in digests if digest is not None}:
        if not uploads.has(digest):
            raise QueueError(f"working directory {digest[:12]}: was not uploaded, or has been pruned; submit again")


async def _receive(request: Request, path: Path) -> str:
    """Write the body of a request into a file; returns its SHA-256. The length was checked at the door."""
    digest = hashlib.sha256()
    with disk_errors("write", path), path.open("wb") as file:
        async for chunk in request.stream():
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _store_checked(uploads: Uploads, digest: str, path: Path) -> None:
    check_archive(path)
    if not uploads.has(digest):
        uploads.add(digest, path)


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
    except (zipfile.BadZipFile, StorageError, ValueError, OSError) as error:
        raise QueueError(f"the upload is not an archive of files ({one_line(error)}); submit with 'adjobs submit'") from error
    size = sum(entry.file_size for entry in entries)
    if size > MAX_ARCHIVE or len(entries) > MAX_FILES:
        limit = f"{MAX_FILES} files of {MAX_ARCHIVE} bytes are allowed"
        raise QueueError(f"the upload holds {len(entries)} files of {size} bytes, {limit}; leave some out in .adjobsignore")


def _key(digest: str) -> str:
    return f"{digest}.zip"
