"""The queue's HTTP interface: what reads the record of jobs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse

from adjobs.errors import ClusterError
from adjobs.queue.access import Viewer
from adjobs.queue.answers import READ, describe
from adjobs.queue.dispatcher import Limits
from adjobs.queue.explain import why
from adjobs.queue.heartbeat import Heartbeat
from adjobs.queue.ray_jobs import Cluster
from adjobs.queue.schemas import DetailsResponse, ForeignListResponse, JobId, ListResponse, LogResponse, User
from adjobs.queue.states import JobState
from adjobs.queue.store import JobStore
from adjobs.queue.views import shown, shown_foreign

LOG_CHARACTERS = 100_000
"""Of the end of a log, at most."""


def add_questions(app: FastAPI, store: JobStore, cluster: Cluster, limits: Limits, heartbeat: Heartbeat) -> None:
    """Add the endpoints that read."""

    @app.get("/api/jobs", responses=describe(ListResponse, *READ))
    def select(
        identity: Viewer,
        state: Annotated[list[JobState] | None, Query()] = None,
        user: Annotated[User | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> JSONResponse:
        """Jobs, the latest first."""
        positions = store.positions()
        return JSONResponse({"jobs": [shown(job, positions) for job in store.summaries(state or (), user, limit)]})

    @app.get("/api/foreign-jobs", responses=describe(ForeignListResponse, *READ))
    def select_foreign(identity: Viewer) -> JSONResponse:
        """Jobs of Ray that the queue did not submit ('ray job submit'), at most the latest 1000."""
        try:
            return JSONResponse({"jobs": [shown_foreign(job) for job in cluster.foreign_jobs()[:1000]], "note": None})
        except ClusterError as error:
            return JSONResponse({"jobs": [], "note": str(error)})

    @app.get("/api/jobs/{job}", responses=describe(DetailsResponse, *READ))
    def get(job: JobId, identity: Viewer) -> JSONResponse:
        """One job with its history and what it waits for."""
        queued = store.get(job)
        changes = [asdict(change) for change in store.history_of(queued.id)]
        explanation = why(queued, store, cluster, limits, heartbeat)
        return JSONResponse(
            {**shown(queued, store.positions()), "spec": queued.spec, "history": changes, "explanation": explanation}
        )

    @app.get("/api/jobs/{job}/logs", responses=describe(LogResponse, *READ))
    def logs(
        job: JobId, identity: Viewer, characters: Annotated[int, Query(ge=1, le=LOG_CHARACTERS)] = LOG_CHARACTERS
    ) -> JSONResponse:
        """The end of what the driver of the last attempt has printed."""
        queued = store.get(job)
        text = cluster.logs(queued.submission_id) if queued.attempt else ""
        return JSONResponse(
            {"state": queued.state, "attempt": queued.attempt, "logs": text[-characters:], "characters": len(text)}
        )
