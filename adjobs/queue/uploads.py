"""The queue's HTTP interface: what takes archives of working directories."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from adjobs.errors import QueueError
from adjobs.queue.access import Submitter
from adjobs.queue.answers import CHANGE, RETRY_SECONDS, describe
from adjobs.queue.archives import Archives
from adjobs.queue.schemas import UploadResponse
from adjobs.storage.base import disk_errors

_BODY = {"requestBody": {"required": True, "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}}

MAX_AT_ONCE = 4
"""Uploads that are received at the same time: each needs disk space on the queue's machine until it is stored."""

Digest = Annotated[str, Query(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the archive")]


def add_uploads(app: FastAPI, archives: Archives) -> None:
    """Add the endpoints that take archives of working directories."""
    turn = asyncio.Semaphore(MAX_AT_ONCE)

    @app.get("/api/uploads", responses=describe(UploadResponse, *CHANGE))
    def find(identity: Submitter, sha256: Digest) -> JSONResponse:
        """Whether an archive is stored already."""
        return JSONResponse({"sha256": sha256, "exists": archives.has(sha256)})

    @app.put("/api/uploads", responses=describe(UploadResponse, *CHANGE), openapi_extra=_BODY)
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
                await run_in_threadpool(archives.add, sha256, path)
        return JSONResponse({"sha256": sha256, "exists": True})


async def _receive(request: Request, path: Path) -> str:
    """Write the body of a request into a file; returns its SHA-256. The length was checked at the door."""
    digest = hashlib.sha256()
    with disk_errors("write", path), path.open("wb") as file:
        async for chunk in request.stream():
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
