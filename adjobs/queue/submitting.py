"""How jobs enter the queue: those of all requests that wait, in one transaction with few statements."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from adjobs.errors import QueueError
from adjobs.queue.records import NewJob, Submission
from adjobs.queue.rows import LIVE_STATES, find_job, position_of
from adjobs.queue.schema import history, jobs, predecessors
from adjobs.queue.states import JobState

MAX_PRIORITY = 1000

Request = Sequence[NewJob]
"""Jobs that are queued together, in this order, all or none."""
Answer = list[Submission] | QueueError

# Built once.
_FIND_LIVE = sa.select(jobs.c.key, jobs.c.id, sa.literal(0).label("priority"), sa.literal(0).label("number")).where(
    jobs.c.key.in_(sa.bindparam("keys", expanding=True)), jobs.c.state.in_(LIVE_STATES)
)
_COUNT_QUEUED = (
    sa.select(sa.null().label("key"), sa.null().label("id"), jobs.c.priority, sa.func.count().label("number"))
    .where(jobs.c.state == JobState.QUEUED.value)
    .group_by(jobs.c.priority)
)
_READ = sa.union_all(_FIND_LIVE, _COUNT_QUEUED)  # one statement: each is three messages to PostgreSQL and their answers
# For PostgreSQL all rows in one statement that is always the same: its driver sends every statement of a list on its own.
_POSTGRESQL = sa.URL.create("postgresql+pg8000").get_dialect()()
_COLUMNS = [column for column in jobs.c if column.name not in ("seq", "started_at", "ended_at", "run_id", "progress")]
_INSERT_ALL = sa.text(f"""
    with new as (
        insert into {jobs.name} ({", ".join(f'"{column.name}"' for column in _COLUMNS)})
        select {", ".join(f'"{column.name}"' for column in _COLUMNS)} from json_to_recordset(cast(:rows as json)) as row (
            place integer, {", ".join(f'"{column.name}" {column.type.compile(_POSTGRESQL)}' for column in _COLUMNS)}
        ) order by place
        returning id, "user"
    )
    insert into {history.name} (job, time, state, attempt, reason)
    select id, cast(:now as double precision), 'queued', 0, 'submitted by ' || "user" from new
""")


def insert_jobs(connection: sa.Connection, requests: Sequence[Request], now: float) -> list[Answer]:
    """Queue the jobs of requests, in their order; of each request all or none. What equals a living job is that one.

    Returns:
        For each request its submissions, or why it was refused.
    """
    batch = _Batch(connection, now)
    accepted = [_find_predecessors(connection, request) for request in requests]
    valid = [request for request, after in zip(requests, accepted, strict=True) if not isinstance(after, QueueError)]
    batch.read({job.key for request in valid for job in request})
    answers: list[list[tuple[str, bool]] | QueueError] = []
    for request, after in zip(requests, accepted, strict=True):
        answers.append(after if isinstance(after, QueueError) else list(map(batch.add, request, after)))
    batch.insert()
    return [answer if isinstance(answer, QueueError) else batch.submissions(answer) for answer in answers]


def refuse_priority(priority: int) -> None:
    """Raise QueueError unless a priority is in its range."""
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise QueueError(f"priority: got {priority}; must be between -{MAX_PRIORITY} and {MAX_PRIORITY}")


class _Batch:
    """New jobs that are inserted together."""

    def __init__(self, connection: sa.Connection, now: float) -> None:
        self._connection, self._now = connection, now
        self._live: dict[str, str] = {}  # ids by key
        self._queued: dict[int, int] = {}  # numbers of jobs by priority
        self._new: dict[str, dict[str, Any]] = {}  # rows by id
        self._waits: list[dict[str, str]] = []
        self._positions: dict[str, int] = {}  # by id

    def read(self, keys: set[str]) -> None:
        """Find the living jobs with these keys, and how many wait with each priority."""
        for row in self._connection.execute(_READ, {"keys": sorted(keys)}):
            if row.key is None:
                self._queued[row.priority] = row.number
            else:
                self._live[row.key] = row.id

    def add(self, job: NewJob, after: list[str]) -> tuple[str, bool]:
        """Add a job; returns its id, or that of an equal one, and whether it is new."""
        if job.key in self._live:
            return self._live[job.key], False
        identifier = self._live[job.key] = uuid.uuid4().hex[:12]
        fixed = {"state": JobState.QUEUED.value, "attempt": 0, "stop_requested": False, "owner": "", "lease_until": 0.0}
        given = {name: getattr(job, name) for name in ("key", "priority", "user", "name", "max_attempts")}
        row = {"id": identifier, "spec": job.spec, **_summary(job.spec), "created_at": self._now, "reason": "", **fixed, **given}
        self._new[identifier] = row
        self._waits += [{"job": identifier, "predecessor": name} for name in after]
        return identifier, True

    def insert(self) -> None:
        """Insert all, with the first row of their history."""
        if not self._new:
            return
        self._positions = self._find_positions()
        rows = list(self._new.values())
        if self._connection.dialect.name == "postgresql":
            numbered = [{"place": place, **row} for place, row in enumerate(rows)]
            self._connection.execute(_INSERT_ALL, {"rows": json.dumps(numbered), "now": self._now})
        else:
            first = {"time": self._now, "state": JobState.QUEUED.value, "attempt": 0}
            changes = [{"job": row["id"], "reason": f"submitted by {row['user']}", **first} for row in rows]
            self._connection.execute(jobs.insert(), rows)
            self._connection.execute(history.insert(), changes)
        if self._waits:
            self._connection.execute(predecessors.insert(), self._waits)

    def submissions(self, added: Sequence[tuple[str, bool]]) -> list[Submission]:
        """Answers, with the place of each job among all that are queued now."""
        positions = self._positions
        return [
            Submission(identifier, is_new, positions.get(identifier) or position_of(self._connection, identifier))
            for identifier, is_new in added
        ]

    def _find_positions(self) -> dict[str, int]:
        """The places of the new jobs, by id, before they are inserted."""
        in_order = sorted(self._new.values(), key=lambda row: -int(row["priority"]))  # stable: first come, first served
        ahead = {
            row["priority"]: sum(count for priority, count in self._queued.items() if priority >= row["priority"])
            for row in in_order
        }
        return {row["id"]: 1 + place + ahead[row["priority"]] for place, row in enumerate(in_order)}


def _summary(spec: Mapping[str, Any]) -> dict[str, str | None]:
    """What lists show of a spec."""
    document = spec.get("document", {})
    job, data = document.get("job"), document.get("dataset", document.get("data"))  # the former of a retraining
    values = {
        "verb": spec.get("verb"),
        "method": (job if isinstance(job, dict) else document).get("method"),
        "data": data.get("uri") if isinstance(data, dict) else data,
    }
    return {name: value if isinstance(value, str) else None for name, value in values.items()}


def _find_predecessors(connection: sa.Connection, request: Request) -> list[list[str]] | QueueError:
    """For each job the ids of those that must be done before, each once; or why the request cannot be accepted."""
    try:
        for job in request:
            refuse_priority(job.priority)
        return [list(dict.fromkeys(_find_predecessor(connection, name) for name in job.after)) for job in request]
    except QueueError as error:
        return error


def _find_predecessor(connection: sa.Connection, identifier: str) -> str:
    try:
        return find_job(connection, identifier).id
    except QueueError as error:
        raise QueueError(f"--after: {error}") from error
