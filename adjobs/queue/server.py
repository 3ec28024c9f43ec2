"""The queue's HTTP interface, the only way from a laptop to the queue: clients get no address of its database, no keys to S3."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from adjobs.queue.access import Gate, Viewer
from adjobs.queue.admission import Admission
from adjobs.queue.answers import READ, add_errors, describe
from adjobs.queue.archives import Archives
from adjobs.queue.changes import add_changes
from adjobs.queue.dispatcher import Limits
from adjobs.queue.heartbeat import Heartbeat
from adjobs.queue.metrics import add_metrics
from adjobs.queue.page import add_page
from adjobs.queue.preflight import add_preflight
from adjobs.queue.questions import add_questions
from adjobs.queue.ray_jobs import Cluster
from adjobs.queue.schedule_api import add_schedules
from adjobs.queue.schedules import Schedules
from adjobs.queue.schemas import HealthResponse, IdentityResponse
from adjobs.queue.store import JobStore
from adjobs.queue.uploads import add_uploads
from adjobs.training.resources import Growth
from adjobs.version import __version__


@dataclass(frozen=True)
class ServerOptions:
    """What the interface knows of its surroundings.

    Attributes:
        tracking_url: of MLflow's pages, for links; None without a server.
        growth: how far the cluster may grow; None: it has what it has now.
        heartbeat: of the dispatcher in this process.
        delete_folder: deletes the folder of a job by its id, when the job is pruned.
    """

    tracking_url: str | None = None
    growth: Growth | None = None
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    delete_folder: Callable[[str], None] = lambda job: None


def make_app(
    store: JobStore,
    cluster: Cluster,
    limits: Limits,
    archives: Archives,
    clock: Callable[[], float] = time.time,
    options: ServerOptions | None = None,
) -> FastAPI:
    """The application.

    Args:
        store: the record of the jobs.
        cluster: where their drivers run.
        limits: how many run at once.
        archives: working directories that clients send.
        clock: the time, in seconds since the epoch.
        options: what else is known of the surroundings.
    """
    options = options or ServerOptions()
    app = FastAPI(title="adjobs queue", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, store=store)
    add_errors(app)
    add_page(app)
    _add_health(app, store)
    _add_identity(app, options.tracking_url)
    add_questions(app, store, cluster, limits, options.heartbeat)
    admission, schedules = Admission(cluster, options.growth), Schedules(store, clock)
    add_metrics(app, store, schedules, limits, options.heartbeat, clock)
    add_changes(app, store, admission, archives, clock, options.delete_folder)
    add_schedules(app, schedules, admission, clock)
    add_preflight(app, store, cluster, admission, limits, clock)
    add_uploads(app, archives)
    return app


def _add_health(app: FastAPI, store: JobStore) -> None:
    @app.get("/healthz", responses=describe(HealthResponse, 413, 503))
    def health() -> JSONResponse:
        """Whether the queue answers, database and all."""
        store.select(limit=1)
        return JSONResponse({"status": "ok", "version": __version__})


def _add_identity(app: FastAPI, tracking_url: str | None) -> None:
    @app.get("/api/me", responses=describe(IdentityResponse, *READ))
    def me(identity: Viewer) -> JSONResponse:
        """Whose token was sent, what its role is, and where MLflow's pages are."""
        return JSONResponse({"user": identity.user, "role": identity.role, "tracking_url": tracking_url})
