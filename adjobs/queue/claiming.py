"""Which job is the next to start, and which can never start."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from adjobs.queue.records import QueuedJob
from adjobs.queue.rows import change_state
from adjobs.queue.schema import jobs, predecessors
from adjobs.queue.states import HOLDING_SLOT, JobState

_QUEUED = jobs.c.state == JobState.QUEUED.value
_HOLDING = sa.select(jobs.c.user, sa.func.count()).where(jobs.c.state.in_(HOLDING_SLOT)).group_by(jobs.c.user)
_ANY_QUEUED = sa.select(jobs.c.seq).where(_QUEUED).limit(1)

_before = jobs.alias()
_ORPHANED = (
    sa.select(jobs, _before.c.id.label("cause"), _before.c.state.label("cause_state"))
    .join(predecessors, predecessors.c.job == jobs.c.id)
    .join(_before, _before.c.id == predecessors.c.predecessor)
    .where(_QUEUED, _before.c.state.in_((JobState.FAILED, JobState.STOPPED)))
    .order_by(jobs.c.seq)
)
_waits = sa.exists().where(
    predecessors.c.job == jobs.c.id, _before.c.id == predecessors.c.predecessor, _before.c.state != JobState.DONE.value
)
_ELIGIBLE = sa.select(jobs).where(_QUEUED, ~_waits).order_by(jobs.c.priority.desc(), jobs.c.seq).limit(1)


def holding_per_user(connection: sa.Connection) -> dict[str, int]:
    """How many jobs of each user hold a slot."""
    return {row[0]: row[1] for row in connection.execute(_HOLDING)}


def has_claimable(connection: sa.Connection, slots: int) -> bool:
    """Whether there may be something to claim, or to fail: what most often does not, keeps no other from writing."""
    if connection.execute(_ORPHANED.limit(1)).first() is not None:
        return True
    if connection.execute(_ANY_QUEUED).first() is None:
        return False
    return sum(holding_per_user(connection).values()) < slots


def next_eligible(connection: sa.Connection, full_users: Sequence[str]) -> QueuedJob | None:
    """The first queued job that waits for no other, of a user who may have one more."""
    query = _ELIGIBLE.where(jobs.c.user.not_in(full_users)) if full_users else _ELIGIBLE
    row = connection.execute(query).mappings().first()
    return None if row is None else QueuedJob.from_row(row)


def fail_orphaned(connection: sa.Connection, now: float) -> None:
    """Fail queued jobs that wait for one that failed or was stopped, and those that wait for them in turn."""
    while rows := connection.execute(_ORPHANED).mappings().all():
        for row in {row["id"]: row for row in rows}.values():
            job = QueuedJob.from_row({column.name: row[column.name] for column in jobs.c})
            reason = f"job {row['cause']}, which it had to wait for, is {row['cause_state']}"
            change_state(connection, job, JobState.FAILED, reason, now)
