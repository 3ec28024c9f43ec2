"""The queue's HTTP interface, the only way from a laptop to the queue: clients get no address of its database, no keys to S3."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

from adjobs.errors import AdjobsError, ClusterError, QueueDatabaseError, QueueError, StorageError, printable, shorten
from adjobs.queue import tokens
from adjobs.queue.admission import admit
from adjobs.queue.client import MAX_BODY
from adjobs.queue.dispatcher import Limits
from adjobs.queue.explain import why
from adjobs.queue.folder import JobSpec
from adjobs.queue.page import add_page
from adjobs.queue.rates import FAILURES_AT_ONCE, FAILURES_PER_SECOND, REQUESTS_AT_ONCE, REQUESTS_PER_SECOND, TokenBuckets
from adjobs.queue.ray_jobs import Cluster, ForeignJob, RayStatus
from adjobs.queue.records import NewJob, QueuedJob
from adjobs.queue.schemas import (
    ChangedJobResponse,
    DetailsResponse,
    ErrorResponse,
    ForeignListResponse,
    HealthResponse,
    IdentityResponse,
    JobId,
    JobRequest,
    ListResponse,
    LogResponse,
    PreflightResponse,
    PriorityRequest,
    PruneRequest,
    PruneResponse,
    SubmitRequest,
    SubmitResponse,
    User,
)
from adjobs.queue.states import LIVE, JobState
from adjobs.queue.store import JobStore
from adjobs.queue.tokens import Identity, Role
from adjobs.version import __version__

LOG_CHARACTERS = 100_000
"""Of the end of a log, at most."""


READ = (400, 401, 404, 413, 422, 429, 503)
"""Answers to a request that reads, beside the one that it wants; those to a request that changes jobs are:"""
CHANGE = (*READ, 403)

_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


class Rates(NamedTuple):
    """What is left of the requests of each token, and of those without a right one from each address."""

    tokens: TokenBuckets
    failures: TokenBuckets


def make_app(
    store: JobStore,
    cluster: Cluster,
    limits: Limits,
    clock: Callable[[], float] = time.time,
    tracking_url: str | None = None,
) -> FastAPI:
    """The application.

    Args:
        store: the record of the jobs.
        cluster: where their drivers run.
        limits: how many run at once.
        clock: the time, in seconds since the epoch.
        tracking_url: of MLflow's pages, for links; None without a server.
    """
    app = FastAPI(title="adjobs queue", version=__version__, docs_url=None, redoc_url=None)
    _add_errors(app)
    add_page(app)
    _add_health(app, store, clock)
    _add_identity(app, tracking_url)
    _add_jobs(app, store, cluster, limits)
    _add_changes(app, store, clock)
    return app


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Refusals, for the description of an endpoint."""
    return {status: {"model": ErrorResponse} for status in statuses}


def _answers(model: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """All answers, for the description of an endpoint; those of thousands of jobs are not validated once more."""
    return {200: {"model": model}, **_errors(*statuses)}


_ERROR_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
_METRICS_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": "refused", "content": _ERROR_CONTENT} for status in READ
}  # FastAPI would describe them as text, like the figures


def _add_errors(app: FastAPI) -> None:
    """Every refusal is one line under the key ``error``."""

    @app.exception_handler(AdjobsError)
    async def refuse(request: Request, error: AdjobsError) -> JSONResponse:
        unavailable = isinstance(error, ClusterError | StorageError | QueueDatabaseError)
        status = 404 if isinstance(error, QueueError) and "no such job" in str(error) else 503 if unavailable else 422
        return JSONResponse({"error": str(error)}, status)

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

    @app.middleware("http")
    async def limit_body(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        size = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or not size.isdigit() or int(size) > MAX_BODY:
            return JSONResponse({"error": f"the request must have a length, of at most {MAX_BODY} bytes"}, 413)
        response = await call_next(request)
        response.headers.update(_HEADERS)
        return response


def _add_health(app: FastAPI, store: JobStore, clock: Callable[[], float]) -> None:
    @app.get("/healthz", responses=_answers(HealthResponse, 413, 503))
    def health() -> JSONResponse:
        """Whether the queue answers, database and all."""
        store.select(limit=1)
        return JSONResponse({"status": "ok", "version": __version__})

    @app.get("/metrics", response_class=PlainTextResponse, responses=_METRICS_ERRORS)
    def metrics(identity: Viewer) -> str:
        """Figures for Prometheus."""
        counts, since = store.counts(), store.queued_since()
        lines = ["# HELP adjobs_jobs Jobs by state.", "# TYPE adjobs_jobs gauge"]
        lines += [f'adjobs_jobs{{state="{state}"}} {counts[state]}' for state in JobState]
        lines += ["# HELP adjobs_longest_wait_seconds Age of the oldest queued job.", "# TYPE adjobs_longest_wait_seconds gauge"]
        lines += [f"adjobs_longest_wait_seconds {0.0 if since is None else clock() - since:.1f}"]
        return "\n".join(lines) + "\n"

    rates = Rates(TokenBuckets(REQUESTS_PER_SECOND, REQUESTS_AT_ONCE), TokenBuckets(FAILURES_PER_SECOND, FAILURES_AT_ONCE))

    @app.middleware("http")
    async def provide_store(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.store, request.state.rates = store, rates
        return await call_next(request)


def _identify(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
) -> Identity:
    store: JobStore = request.state.store
    rates: Rates = request.state.rates
    address = request.client.host if request.client else ""
    token = "" if credentials is None else hashlib.sha256(credentials.credentials.encode()).hexdigest()
    if not rates.tokens.knows(token):  # one that was right before is not kept out by others at its address
        _limit(rates.failures.wait(address), "too many requests without a right token from this address")
    identity = None
    if credentials is not None:
        with store.reading() as connection:
            identity = tokens.identify(connection, credentials.credentials)
    if identity is not None:
        _limit(rates.tokens.take(token), f"too many requests of {identity.user}")
    else:
        rates.failures.take(address)
        problem = "no token was sent" if credentials is None else "the token is unknown or revoked"
        detail = f"{problem}; ask an administrator for one ('adjobs token create') and set ADJOBS_QUEUE_TOKEN_PATH to its file"
        raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
    return identity


def _limit(seconds: float, problem: str) -> None:
    if seconds > 0:
        wait = math.ceil(seconds)
        raise HTTPException(429, f"{problem}; try again in {wait} s", {"Retry-After": str(wait)})


def _submitter(identity: Annotated[Identity, Depends(_identify)]) -> Identity:
    if identity.role is Role.VIEWER:
        raise HTTPException(403, f"{identity.user} is a viewer, who cannot change jobs; ask an administrator for another token")
    return identity


Viewer = Annotated[Identity, Depends(_identify)]
Submitter = Annotated[Identity, Depends(_submitter)]


def _add_identity(app: FastAPI, tracking_url: str | None) -> None:
    @app.get("/api/me", responses=_answers(IdentityResponse, *READ))
    def me(identity: Viewer) -> JSONResponse:
        """Whose token was sent, what its role is, and where MLflow's pages are."""
        return JSONResponse({"user": identity.user, "role": identity.role, "tracking_url": tracking_url})


def _add_jobs(app: FastAPI, store: JobStore, cluster: Cluster, limits: Limits) -> None:
    """What reads the queue, and what adds to it."""

    @app.post("/api/jobs", responses=_answers(SubmitResponse, *CHANGE))
    def submit(request: SubmitRequest, identity: Submitter) -> JSONResponse:
        """Queue jobs; equal ones that live are returned as they are."""
        try:
            nodes = cluster.nodes()
        except ClusterError:
            nodes = None  # it waits until there is a head that answers
        new = [_new_job(job, identity, nodes) for job in request.jobs]
        return JSONResponse({"jobs": [asdict(submission) for submission in store.submit(*new)]})

    @app.get("/api/preflight", responses=_answers(PreflightResponse, *READ))
    def preflight(identity: Viewer, priority: Annotated[int, Query(ge=-1000, le=1000)] = 0) -> JSONResponse:
        """The version of the queue, and the place that a job would have; nothing is submitted."""
        return JSONResponse({"version": __version__, "position": store.next_position(priority)})

    @app.get("/api/jobs", responses=_answers(ListResponse, *READ))
    def select(
        identity: Viewer,
        state: Annotated[list[JobState] | None, Query()] = None,
        user: Annotated[User | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> JSONResponse:
        """Jobs, the latest first."""
        positions = store.positions()
        return JSONResponse({"jobs": [_shown(job, positions) for job in store.summaries(state or (), user, limit)]})

    @app.get("/api/foreign-jobs", responses=_answers(ForeignListResponse, *READ))
    def select_foreign(identity: Viewer) -> JSONResponse:
        """Jobs of Ray that the queue did not submit ('ray job submit'), at most the latest 1000."""
        try:
            return JSONResponse({"jobs": [_shown_foreign(job) for job in cluster.foreign_jobs()[:1000]], "note": None})
        except ClusterError as error:
            return JSONResponse({"jobs": [], "note": str(error)})

    @app.get("/api/jobs/{job}", responses=_answers(DetailsResponse, *READ))
    def get(job: JobId, identity: Viewer) -> JSONResponse:
        """One job with its history and what it waits for."""
        queued = store.get(job)
        changes = [asdict(change) for change in store.history_of(queued.id)]
        explanation = why(queued, store, cluster, limits)
        return JSONResponse(
            {**_shown(queued, store.positions()), "spec": queued.spec, "history": changes, "explanation": explanation}
        )

    @app.get("/api/jobs/{job}/logs", responses=_answers(LogResponse, *READ))
    def logs(
        job: JobId, identity: Viewer, characters: Annotated[int, Query(ge=1, le=LOG_CHARACTERS)] = LOG_CHARACTERS
    ) -> JSONResponse:
        """The end of what the driver of the last attempt has printed."""
        queued = store.get(job)
        text = cluster.logs(queued.submission_id) if queued.attempt else ""
        return JSONResponse(
            {"state": queued.state, "attempt": queued.attempt, "logs": text[-characters:], "characters": len(text)}
        )


def _add_changes(app: FastAPI, store: JobStore, clock: Callable[[], float]) -> None:
    """What changes jobs."""

    def own(identifier: str, identity: Identity) -> QueuedJob:
        job = store.get(identifier)
        if identity.role is not Role.ADMIN and job.user != identity.user:
            raise HTTPException(403, f"job {job.id} is {job.user}'s; only they and administrators can change it")
        return job

    @app.post("/api/jobs/{job}/stop", responses=_answers(ChangedJobResponse, *CHANGE))
    def stop(job: JobId, identity: Submitter) -> JSONResponse:
        """End a job; one that runs ends within seconds."""
        return JSONResponse(store.request_stop(own(job, identity).id).to_dict())

    @app.post("/api/jobs/{job}/resume", responses=_answers(ChangedJobResponse, *CHANGE))
    def resume(job: JobId, identity: Submitter) -> JSONResponse:
        """Queue a failed or stopped job again, to go on from its last checkpoint."""
        return JSONResponse(store.requeue(own(job, identity).id).to_dict())

    @app.post("/api/jobs/{job}/priority", responses=_answers(ChangedJobResponse, *CHANGE))
    def set_priority(job: JobId, request: PriorityRequest, identity: Submitter) -> JSONResponse:
        """Move a queued job."""
        return JSONResponse(store.set_priority(own(job, identity).id, request.priority).to_dict())

    @app.post("/api/prune", responses=_answers(PruneResponse, *CHANGE))
    def prune(request: PruneRequest, identity: Submitter) -> JSONResponse:
        """Forget jobs that ended long ago; their runs stay in MLflow."""
        if identity.role is not Role.ADMIN:
            raise HTTPException(403, f"{identity.user} is no administrator; only they can prune the queue")
        return JSONResponse({"deleted": store.prune(clock() - request.days * 86400)})


def _new_job(request: JobRequest, identity: Identity, nodes: list[dict[str, float]] | None) -> NewJob:
    options = None if request.options is None else request.options.model_dump(exclude_unset=True)
    spec = JobSpec(request.verb, request.name, request.document, request.space, options)
    key = admit(spec, nodes)
    if request.key is not None:  # of this user alone: nobody can take the place of another's job
        key = hashlib.sha256(f"{identity.user} {request.key}".encode()).hexdigest()
    return NewJob(key, spec.to_dict(), identity.user, request.name, request.priority, tuple(request.after))


def _shown(job: QueuedJob, positions: dict[str, int]) -> dict[str, Any]:
    data = job.spec.get("document", {}).get("data")
    summary = {"verb": job.spec.get("verb"), "method": job.spec.get("document", {}).get("method")}
    uri = data.get("uri") if isinstance(data, dict) else data
    position = positions.get(job.id, 0) if job.state in LIVE else 0
    return {**job.to_dict(), **summary, "data": uri, "position": position, "why": job.reason}


_FOREIGN_STATES = {
    RayStatus.PENDING: JobState.STARTING,
    RayStatus.RUNNING: JobState.RUNNING,
    RayStatus.SUCCEEDED: JobState.DONE,
    RayStatus.FAILED: JobState.FAILED,
    RayStatus.STOPPED: JobState.STOPPED,
}


def _shown_foreign(job: ForeignJob) -> dict[str, Any]:
    reason = shorten(printable(job.message), 300)
    missing = dict.fromkeys(("run_id", "progress", "method", "data"))
    return {
        "id": job.id,
        "state": _FOREIGN_STATES[job.status],
        "name": shorten(printable(job.entrypoint), 100),
        "user": "-",
        "verb": "ray",
        **missing,
        **dict.fromkeys(("priority", "attempt", "max_attempts", "position"), 0),
        "stop_requested": False,
        "created_at": job.started_at or 0.0,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "reason": reason,
        "why": reason,
        "foreign": True,
    }
