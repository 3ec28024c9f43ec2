"""The queue's HTTP interface: schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse

from adjobs.errors import ScheduleError
from adjobs.queue.access import Submitter, Viewer
from adjobs.queue.admission import Admission
from adjobs.queue.answers import CHANGE, READ, describe
from adjobs.queue.cron import next_after
from adjobs.queue.folder import JobSpec
from adjobs.queue.schedules import LastJob, NewSchedule, Schedule, Schedules
from adjobs.queue.schemas import (
    SavedScheduleResponse,
    ScheduleListResponse,
    ScheduleName,
    ScheduleRequest,
    ScheduleResponse,
    SubmissionResponse,
)
from adjobs.queue.tokens import Identity, Role


def add_schedules(app: FastAPI, schedules: Schedules, admission: Admission, clock: Callable[[], float]) -> None:
    """Add the endpoints of schedules."""

    def view(name: str) -> dict[str, Any]:
        views = [shown(schedule, last, clock()) for schedule, last in schedules.select(name)]
        return views[0] if views else shown(schedules.get(name), None, clock())  # which says that there is none

    def own(name: str, identity: Identity) -> None:
        ensure_own(schedules.get(name), identity)

    @app.get("/api/schedules", responses=describe(ScheduleListResponse, *READ))
    def select(identity: Viewer) -> JSONResponse:
        """All schedules by name."""
        return JSONResponse({"schedules": [shown(schedule, last, clock()) for schedule, last in schedules.select()]})

    @app.post("/api/schedules", responses=describe(SavedScheduleResponse, *CHANGE))
    def save(request: ScheduleRequest, identity: Submitter) -> JSONResponse:
        """Add a schedule, or replace the one with its name. Its job is checked as a submitted one is."""
        new = NewSchedule(user=identity.user, **request.model_dump())
        admission.admit(JobSpec("retrain", new.name, request.document))
        replaced = schedules.save(new, lambda earlier: ensure_own(earlier, identity))
        return JSONResponse({**view(new.name), "replaced": replaced})

    @app.post("/api/schedules/{name}/pause", responses=describe(ScheduleResponse, *CHANGE))
    def pause(name: ScheduleName, identity: Submitter) -> JSONResponse:
        """Submit nothing until it is resumed."""
        own(name, identity)
        schedules.pause(name)
        return JSONResponse(view(name))

    @app.post("/api/schedules/{name}/resume", responses=describe(ScheduleResponse, *CHANGE))
    def resume(name: ScheduleName, identity: Submitter) -> JSONResponse:
        """Go on with its next time; those that were missed while it was paused are not made up for."""
        own(name, identity)
        schedules.resume(name)
        return JSONResponse(view(name))

    @app.post("/api/schedules/{name}/run", responses=describe(SubmissionResponse, *CHANGE))
    def run(name: ScheduleName, identity: Submitter) -> JSONResponse:
        """Submit its job now, whatever its times."""
        own(name, identity)
        key = admission.admit(schedules.get(name).to_spec())
        return JSONResponse(asdict(schedules.submit_now(name, key, identity.user)))

    @app.delete("/api/schedules/{name}", responses=describe(ScheduleResponse, *CHANGE))
    def remove(name: ScheduleName, identity: Submitter) -> JSONResponse:
        """Delete a schedule; its jobs stay. The answer is what it was."""
        own(name, identity)
        answer = view(name)
        schedules.remove(name)
        return JSONResponse(answer)


def ensure_own(schedule: Schedule, identity: Identity) -> None:
    """Refuse whoever may not change a schedule."""
    if identity.role is not Role.ADMIN and schedule.user != identity.user:
        raise HTTPException(
            403, f"schedule {schedule.name} is {schedule.user}'s; only they and administrators can change it; use another name"
        )


def shown(schedule: Schedule, last: LastJob | None, now: float) -> dict[str, Any]:
    """A schedule as clients see it."""
    names = ("name", "user", "cron", "time_zone", "paused", "created_at", "last_job", "reason")
    return {
        **{name: getattr(schedule, name) for name in names},
        "model": schedule.document["model"],
        "next_at": None if schedule.paused else _next_at(schedule, now),
        "last_at": None if last is None else last.created_at,
        "last_state": None if last is None else last.state,
    }


def _next_at(schedule: Schedule, now: float) -> int | None:
    try:
        return next_after(schedule.cron, schedule.time_zone, int(now))
    except ScheduleError:  # this machine no longer knows its time zone, which the reason says
        return None
