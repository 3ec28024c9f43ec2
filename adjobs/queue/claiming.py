"""Which job is the next to start, and which can never start."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from adjobs.queue.records import QueuedJob
from adjobs.queue.rows import change_state
from adjobs.queue.schema import jobs, predecessors
from adjobs.queue.states import HOLDING_SLOT, JobState


def holding_per_user(connection: sa.Connection) -> dict[str, int]:
    """How many jobs of each user hold a slot."""
    holding = [state.value for state in HOLDING_SLOT]
    query = sa.select(jobs.c.user, sa.func.count()).where(jobs.c.state.in_(holding)).group_by(jobs.c.user)
    return {row[0]: row[1] for row in connection.execute(query)}


def next_eligible(connection: sa.Connection, full_users: Sequence[str]) -> QueuedJob | None:
    """The first queued job that waits for no other, of a user who may have one more."""
    before = jobs.alias()
    waits = sa.exists().where(
        predecessors.c.job == jobs.c.id, before.c.id == predecessors.c.predecessor, before.c.state != JobState.DONE.value
    )
    query = sa.select(jobs).where(jobs.c.state == JobState.QUEUED.value, ~waits)
    query = query.where(jobs.c.user.not_in(full_users)) if full_users else query
    row = connection.execute(query.order_by(jobs.c.priority.desc(), jobs.c.seq).limit(1)).mappings().first()
    return None if row is None else QueuedJob.from_row(row)


def fail_orphaned(connection: sa.Connection, now: float) -> None:
    """Fail queued jobs that wait for one that failed or was stopped, and those that wait for them in turn."""
    before = jobs.alias()
    joined = sa.select(jobs, before.c.id.label("cause"), before.c.state.label("cause_state"))
    joined = joined.join(predecessors, predecessors.c.job == jobs.c.id)
    joined = joined.join(before, before.c.id == predecessors.c.predecessor)
    lost = [JobState.FAILED.value, JobState.STOPPED.value]
    query = joined.where(jobs.c.state == JobState.QUEUED.value, before.c.state.in_(lost)).order_by(jobs.c.seq)
    while rows := connection.execute(query).mappings().all():
        for row in {row["id"]: row for row in rows}.values():
            job = QueuedJob.from_row({column.name: row[column.name] for column in jobs.c})
            reason = f"job {row['cause']}, which it had to wait for, is {row['cause_state']}"
            change_state(connection, job, JobState.FAILED, reason, now)
