"""What is read of the queue. Nothing here waits for those who write, or keeps them waiting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from adjobs.queue.database import QueueDatabase
from adjobs.queue.figures import Figures, read_figures
from adjobs.queue.records import Change, QueuedJob
from adjobs.queue.rows import find_job
from adjobs.queue.schema import history, jobs, predecessors
from adjobs.queue.states import JobState


class JobReader(QueueDatabase):
    """Questions to the record of jobs."""

    def get(self, identifier: str) -> QueuedJob:
        """A job by its id, or by its first digits if they are unique.

        Raises:
            QueueError: there is none, or several.
        """
        with self.reading() as connection:
            return find_job(connection, identifier)

    def select(self, states: Sequence[JobState] = (), user: str | None = None, limit: int = 10_000) -> list[QueuedJob]:
        """Jobs of these states (all if none is given), the latest submitted first, at most ``limit``."""
        with self.reading() as connection:
            rows = connection.execute(_chosen(sa.select(jobs), states, user, limit)).mappings()
            return [QueuedJob.from_row(row) for row in rows]

    def summaries(self, states: Sequence[JobState] = (), user: str | None = None, limit: int = 10_000) -> list[QueuedJob]:
        """As :meth:`select`, but without their specs: thousands of them take seconds to read."""
        columns = [column for column in jobs.c if column is not jobs.c.spec]
        names = [column.name for column in columns]
        with self.reading() as connection:
            rows = connection.execute(_chosen(sa.select(*columns), states, user, limit))
            return [QueuedJob.from_row(dict(zip(names, row, strict=True), spec={})) for row in rows]

    def working_dirs(self) -> set[str]:
        """SHA-256 of the archives that jobs name, those that have ended included: they may be resumed."""
        digest = jobs.c.spec["working_dir"].as_string()
        with self.reading() as connection:
            return {value for value in connection.execute(sa.select(digest).distinct()).scalars() if value}

    def positions(self) -> dict[str, int]:
        """Place of each queued job in the order, from 1, by id."""
        query = sa.select(jobs.c.id).where(jobs.c.state == JobState.QUEUED.value).order_by(jobs.c.priority.desc(), jobs.c.seq)
        with self.reading() as connection:
            return {name: place for place, name in enumerate(connection.execute(query).scalars(), 1)}

    def counts(self) -> dict[JobState, int]:
        """Number of jobs in each state."""
        query = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)
        with self.reading() as connection:
            by_state: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
        return {state: by_state.get(state.value, 0) for state in JobState}

    def queued_since(self) -> float | None:
        """When the oldest queued job was submitted, in seconds since the epoch; None without any."""
        query = sa.select(sa.func.min(jobs.c.created_at)).where(jobs.c.state == JobState.QUEUED.value)
        with self.reading() as connection:
            since: float | None = connection.execute(query).scalar()
            return since

    def figures(self) -> Figures:
        """Totals of all time."""
        with self.reading() as connection:
            return read_figures(connection)

    def images_per_second(self) -> float:
        """Of all trainings that run, as their drivers have last reported."""
        query = sa.select(jobs.c.progress).where(jobs.c.state == JobState.RUNNING.value)
        with self.reading() as connection:
            reports = connection.execute(query).scalars().all()
        return float(sum((report or {}).get("images_per_s") or 0.0 for report in reports))

    def history_of(self, identifier: str) -> list[Change]:
        """What happened to a job, in order.

        Raises:
            QueueError: there is no such job.
        """
        with self.reading() as connection:
            job = find_job(connection, identifier)
            columns = (history.c.time, history.c.state, history.c.attempt, history.c.reason)
            rows = connection.execute(sa.select(*columns).where(history.c.job == job.id).order_by(history.c.number))
            return [Change(row.time, JobState(row.state), row.attempt, row.reason) for row in rows]

    def next_position(self, priority: int) -> int:
        """The place, from 1, that a job of this priority would have if it were submitted now."""
        queued = jobs.c.state == JobState.QUEUED.value
        query = sa.select(sa.func.count()).where(queued, jobs.c.priority >= priority)
        with self.reading() as connection:
            return 1 + int(connection.execute(query).scalar_one())

    def unfinished_predecessors(self, identifier: str) -> list[str]:
        """The jobs that a job waits for and that are not done."""
        query = sa.select(predecessors.c.predecessor).join(jobs, jobs.c.id == predecessors.c.predecessor)
        query = query.where(predecessors.c.job == identifier, jobs.c.state != JobState.DONE.value).order_by(jobs.c.seq)
        with self.reading() as connection:
            return list(connection.execute(query).scalars())


def _chosen(query: sa.Select[Any], states: Sequence[JobState], user: str | None, limit: int) -> sa.Select[Any]:
    query = query.order_by(jobs.c.seq.desc()).limit(limit)
    query = query.where(jobs.c.state.in_([state.value for state in states])) if states else query
    return query.where(jobs.c.user == user) if user is not None else query
