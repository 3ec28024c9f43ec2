"""How a job enters the queue."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from adjobs.errors import QueueError
from adjobs.queue.records import NewJob, Submission
from adjobs.queue.rows import find_job, find_live, position_of, record_change
from adjobs.queue.schema import jobs, predecessors
from adjobs.queue.states import JobState

MAX_PRIORITY = 1000


def insert_job(connection: sa.Connection, job: NewJob, now: float) -> Submission:
    """Queue a job; if it equals a living one, that is the answer.

    Raises:
        QueueError: a job that it should wait for does not exist, or its priority is out of range.
    """
    refuse_priority(job.priority)
    after = _find_predecessors(connection, job.after)
    existing = find_live(connection, job.key)
    if existing is not None:
        return Submission(existing, False, position_of(connection, existing))
    identifier = uuid.uuid4().hex[:12]
    connection.execute(jobs.insert().values(**_new_row(identifier, job, now)))
    if after:
        rows = [{"job": identifier, "predecessor": name} for name in after]
        connection.execute(predecessors.insert(), rows)
    record_change(connection, identifier, JobState.QUEUED, 0, f"submitted by {job.user}", now)
    return Submission(identifier, True, position_of(connection, identifier))


def refuse_priority(priority: int) -> None:
    """Raise QueueError unless a priority is in its range."""
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise QueueError(f"priority: got {priority}; must be between -{MAX_PRIORITY} and {MAX_PRIORITY}")


def _new_row(identifier: str, job: NewJob, now: float) -> dict[str, Any]:
    fixed = {"state": JobState.QUEUED.value, "attempt": 0, "stop_requested": False, "owner": "", "lease_until": 0.0}
    given = {name: getattr(job, name) for name in ("key", "priority", "user", "name", "max_attempts")}
    return {"id": identifier, "spec": dict(job.spec), "created_at": now, "reason": "", **fixed, **given}


def _find_predecessors(connection: sa.Connection, identifiers: Iterable[str]) -> list[str]:
    """Their ids, each once."""
    try:
        return list(dict.fromkeys(find_job(connection, name).id for name in identifiers))
    except QueueError as error:
        raise QueueError(f"--after: {error}") from error
