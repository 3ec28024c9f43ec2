"""How the queue's HTTP interface answers: every refusal is one line under the key ``error``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

from adjobs.errors import AdjobsError, ClusterError, QueueDatabaseError, QueueError, StorageError, printable
from adjobs.queue.schemas import ErrorResponse

READ = (400, 401, 404, 413, 422, 429, 503)
"""Answers to a request that reads, beside the one that it wants; those to a request that changes jobs are:"""
CHANGE = (*READ, 403)

RETRY_SECONDS = 5
"""After which a client may ask again whose request met a database, a storage or a head that does not answer."""

_ERROR_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
TEXT_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": "refused", "content": _ERROR_CONTENT} for status in READ
}  # of an endpoint that answers text: FastAPI would describe its refusals as text as well


def describe(model: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """All answers, for the description of an endpoint; those of thousands of jobs are not validated once more."""
    return {200: {"model": model}, **{status: {"model": ErrorResponse} for status in statuses}}


def add_errors(app: FastAPI) -> None:
    """Every refusal is one line under the key ``error``."""

    @app.exception_handler(AdjobsError)
    async def refuse(request: Request, error: AdjobsError) -> JSONResponse:
        if isinstance(error, ClusterError | StorageError | QueueDatabaseError):
            return JSONResponse({"error": str(error)}, 503, {"Retry-After": str(RETRY_SECONDS)})
        is_unknown = isinstance(error, QueueError) and ("no such job" in str(error) or "no such schedule" in str(error))
        return JSONResponse({"error": str(error)}, 404 if is_unknown else 422)

    @app.exception_handler(StarletteHTTPException)
    async def refuse_access(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_form(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"] if key != "body") or "the request"
        return JSONResponse({"error": printable(f"{place}: {first['msg']}")[:500]}, 422)

    @app.exception_handler(RecursionError)
    async def refuse_depth(request: Request, error: RecursionError) -> JSONResponse:
        return JSONResponse({"error": "the request is nested too deeply; a job file never is"}, 422)
