"""What several transactions have in common: finding a job, its place, and the one function that changes a state."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from adjobs.errors import QueueError
from adjobs.queue.figures import count_change
from adjobs.queue.records import QueuedJob
from adjobs.queue.schema import history, jobs
from adjobs.queue.states import ENDED, HOLDING_SLOT, LIVE, NEXT, JobState

# As literals: with parameters, SQLite would not use the index of live jobs, and read them all.
LIVE_STATES: sa.BindParameter[Any] = sa.bindparam("live", [state.value for state in LIVE], expanding=True, literal_execute=True)


def find_job(connection: sa.Connection, identifier: str) -> QueuedJob:
    """A job by its id, or by its first digits if they are unique.

    Raises:
        QueueError: there is none, or several.
    """
    # A range, for which databases use the index, other than for LIKE; ids have the digits from 0 to f.
    query = sa.select(jobs).where(jobs.c.id >= identifier, jobs.c.id < f"{identifier}g").limit(2)
    rows = connection.execute(query).mappings().all()
    if len(rows) != 1 or not identifier:
        problem = "several jobs begin so; give more digits" if rows and identifier else "no such job"
        raise QueueError(f"job {identifier!r}: {problem}; list them with 'adjobs jobs list'")
    return QueuedJob.from_row(rows[0])


def find_live(connection: sa.Connection, key: str) -> str | None:
    """The id of the living job with this key."""
    query = sa.select(jobs.c.id).where(jobs.c.key == key, jobs.c.state.in_(LIVE_STATES))
    identifier: str | None = connection.execute(query).scalar()
    return identifier


def position_of(connection: sa.Connection, identifier: str) -> int:
    """Place in the order, from 1; 0 for a job that does not wait."""
    is_queued = jobs.c.state == JobState.QUEUED.value
    mine = sa.select(jobs.c.priority, jobs.c.seq).where(jobs.c.id == identifier, is_queued)
    row = connection.execute(mine).first()
    if row is None:
        return 0
    before = (jobs.c.priority > row.priority) | ((jobs.c.priority == row.priority) & (jobs.c.seq <= row.seq))
    query = sa.select(sa.func.count()).where(is_queued, before)
    return int(connection.execute(query).scalar_one())


def update_job(connection: sa.Connection, job: QueuedJob, **values: Any) -> None:
    """Set columns of a job, other than its state."""
    connection.execute(jobs.update().where(jobs.c.seq == job.seq).values(**values))


def change_state(connection: sa.Connection, job: QueuedJob, state: JobState, reason: str, now: float, **values: Any) -> None:
    """The one place where a state changes; ``values`` are other columns that change with it."""
    assert state in NEXT[job.state], (job.state, state)
    owner = values.pop("owner", job.owner if state in HOLDING_SLOT else "")
    fixed = {"state": state.value, "reason": reason, "ended_at": now if state in ENDED else None, "owner": owner}
    update_job(connection, job, **fixed, **values)
    record_change(connection, job.id, state, values.get("attempt", job.attempt), reason, now)
    count_change(connection, job, state, now)


def record_change(connection: sa.Connection, identifier: str, state: JobState, attempt: int, reason: str, now: float) -> None:
    """Add a row to a job's history."""
    row = {"job": identifier, "time": now, "state": state.value, "attempt": attempt, "reason": reason}
    connection.execute(history.insert().values(**row))
