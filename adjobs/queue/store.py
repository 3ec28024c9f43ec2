"""The record of all queued jobs. Every change of a job's state is made here, with a row of history.

Two kinds of programs write at the same time: those of users, who submit, stop and reorder jobs, and dispatchers, who own the
jobs that they have claimed for as long as they renew their lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from adjobs.errors import QueueError
from adjobs.queue.claiming import fail_orphaned, has_claimable, holding_per_user, next_eligible
from adjobs.queue.grouping import Group
from adjobs.queue.reader import JobReader
from adjobs.queue.records import MAX_ATTEMPTS, NewJob, QueuedJob, Submission
from adjobs.queue.rows import change_state, find_job, find_live, update_job
from adjobs.queue.schema import jobs, predecessors
from adjobs.queue.states import ENDED, HOLDING_SLOT, NEXT, JobState
from adjobs.queue.submitting import Answer, insert_jobs, refuse_priority

RENEWED = 0.75
"""Of a lease that has less left, it is renewed."""


class JobStore(JobReader):
    """The queue's database, to read and to write."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        """Open it, making its tables if they are missing.

        Args:
            url: ``sqlite:///<file>`` or ``postgresql+pg8000://…``.
            clock: the time, in seconds since the epoch.

        Raises:
            QueueError: it cannot be opened.
        """
        super().__init__(url)
        self._clock = clock
        self._submissions = Group(self._submit_together)

    # Users

    def submit(self, *new: NewJob) -> list[Submission]:
        """Queue jobs in this order, all or none; of one that equals a living one, that is the answer.

        Raises:
            QueueError: a job that one should wait for does not exist, or a priority is out of range.
        """
        answer = self._submissions.submit(new)
        if isinstance(answer, QueueError):
            raise answer
        return answer

    def request_stop(self, identifier: str) -> QueuedJob:
        """Stop a job: a queued one ends at once, one that runs when its dispatcher has stopped it.

        Raises:
            QueueError: there is no such job, or it has ended.
        """
        with self.transaction() as connection:
            job = find_job(connection, identifier)
            if job.state in ENDED:
                raise QueueError(f"job {identifier} is {job.state} already; only jobs that wait or run can be stopped")
            if job.state is JobState.QUEUED:
                change_state(connection, job, JobState.STOPPED, "stopped by a user while it was queued", self._clock())
            else:
                update_job(connection, job, stop_requested=True)
            return find_job(connection, identifier)

    def requeue(self, identifier: str) -> QueuedJob:
        """Queue a job again that failed or was stopped; it goes on from its last checkpoint.

        Raises:
            QueueError: there is no such job, it lives, it is done, or an equal one lives.
        """
        with self.transaction() as connection:
            job = find_job(connection, identifier)
            if JobState.QUEUED not in NEXT[job.state] or job.state not in ENDED:
                raise QueueError(f"job {identifier} is {job.state}; only failed and stopped jobs can be resumed")
            if other := find_live(connection, job.key):
                raise QueueError(f"job {identifier}: the equal job {other} lives; wait for it or stop it first")
            values = {"stop_requested": False, "max_attempts": job.attempt + MAX_ATTEMPTS}
            change_state(connection, job, JobState.QUEUED, "resumed by a user", self._clock(), **values)
            return find_job(connection, identifier)

    def set_priority(self, identifier: str, priority: int) -> QueuedJob:
        """Change the priority of a queued job.

        Raises:
            QueueError: there is no such job, it does not wait, or the priority is out of range.
        """
        refuse_priority(priority)
        with self.transaction() as connection:
            job = find_job(connection, identifier)
            if job.state is not JobState.QUEUED:
                raise QueueError(f"job {identifier} is {job.state}; only a queued job has a place in the order")
            update_job(connection, job, priority=priority)
            return find_job(connection, identifier)

    def prune(self, ended_before: float) -> list[str]:
        """Delete jobs that ended before a time; returns their ids.

        What a job waits for that may still start stays with it: else it would not wait for it when it is resumed.
        """
        old = jobs.c.state.in_(ENDED) & (jobs.c.ended_at < ended_before)
        edges = sa.select(predecessors.c.job, predecessors.c.predecessor).join(jobs, jobs.c.id == predecessors.c.job)
        with self.transaction() as connection:
            pruned = set(connection.execute(sa.select(jobs.c.id).where(old)).scalars())
            waits = connection.execute(edges.where(jobs.c.state != JobState.DONE.value)).all()
            while kept := {row.predecessor for row in waits if row.predecessor in pruned and row.job not in pruned}:
                pruned -= kept
            identifiers = sorted(pruned)
            for first in range(0, len(identifiers), 1000):  # databases limit the parameters of a statement
                connection.execute(jobs.delete().where(jobs.c.id.in_(identifiers[first : first + 1000])))
        return identifiers

    def _submit_together(self, requests: Sequence[Sequence[NewJob]]) -> list[Answer]:
        with self.transaction() as connection:
            return insert_jobs(connection, requests, self._clock())

    # Dispatchers

    def claim(self, owner: str, slots: int, lease_seconds: float, max_per_user: int | None = None) -> QueuedJob | None:
        """Claim the next job for a free slot: the highest priority first, and within it the first submitted.

        Jobs that wait for others, and those of users who have as many as they may, let the next one pass.

        Args:
            owner: name of the dispatcher.
            slots: jobs that may hold a slot at once, in all.
            lease_seconds: after this time another dispatcher may adopt it.
            max_per_user: jobs of one user that may hold a slot at once.
        """
        with self.reading() as connection:
            if not has_claimable(connection, slots):
                return None
        with self.transaction() as connection:
            now = self._clock()
            fail_orphaned(connection, now)
            holding = holding_per_user(connection)
            if sum(holding.values()) >= slots:
                return None
            full = [user for user, count in holding.items() if max_per_user is not None and count >= max_per_user]
            job = next_eligible(connection, full)
            if job is None:
                return None
            values = {"owner": owner, "attempt": job.attempt + 1, "lease_until": now + lease_seconds, "started_at": now}
            values["progress"] = None  # that of an earlier attempt says nothing of this one
            change_state(connection, job, JobState.STARTING, "claimed", now, **values)
            return find_job(connection, job.id)

    def adopt(self, owner: str, lease_seconds: float) -> list[QueuedJob]:
        """The jobs that hold a slot and are this dispatcher's: its own, and those whose lease is over. Renews their lease."""
        now = self._clock()
        holding = jobs.c.state.in_(HOLDING_SLOT)
        # A lease that is longer than any is of a time before the clock was set back.
        is_over = (jobs.c.lease_until < now) | (jobs.c.lease_until > now + 2 * lease_seconds)
        mine = holding & ((jobs.c.owner == owner) | is_over)
        query = sa.select(jobs).where(mine).order_by(jobs.c.seq)
        with self.reading() as connection:
            owned = [QueuedJob.from_row(row) for row in connection.execute(query).mappings()]
        fresh = (now + lease_seconds * RENEWED, now + 2 * lease_seconds)
        if all(job.owner == owner and fresh[0] < job.lease_until <= fresh[1] for job in owned):
            return owned
        with self.transaction() as connection:
            connection.execute(jobs.update().where(mine).values(owner=owner, lease_until=now + lease_seconds))
            query = sa.select(jobs).where(holding, jobs.c.owner == owner).order_by(jobs.c.seq)
            return [QueuedJob.from_row(row) for row in connection.execute(query).mappings()]

    def is_held(self, job: QueuedJob) -> bool:
        """Whether this attempt still holds its slot, and its dispatcher still owns it."""
        held = (jobs.c.id == job.id) & (jobs.c.owner == job.owner) & (jobs.c.attempt == job.attempt)
        held &= jobs.c.state.in_([state.value for state in HOLDING_SLOT])
        with self.transaction() as connection:
            return connection.execute(sa.select(jobs.c.id).where(held)).first() is not None

    def move(self, job: QueuedJob, state: JobState, reason: str, **values: Any) -> bool:
        """Change the state of an owned job, and with it other columns.

        Returns:
            False if it is no longer this owner's attempt; then nothing changes.
        """
        with self.transaction() as connection:
            current = find_job(connection, job.id)
            if (current.owner, current.attempt) != (job.owner, job.attempt) or current.state not in HOLDING_SLOT:
                return False
            if current.state is state:  # by a twin of this dispatcher that was believed dead
                return False
            if state is JobState.QUEUED and current.stop_requested:  # since the dispatcher read the job
                state, reason = JobState.STOPPED, "stopped by a user"
            change_state(connection, current, state, reason, self._clock(), **values)
            return True

    def note(self, job: QueuedJob, **values: Any) -> bool:
        """Set ``reason``, ``run_id`` or ``progress`` of a job, as long as it is this owner's attempt."""
        unknown = values.keys() - {"reason", "run_id", "progress"}
        assert not unknown, unknown
        with self.transaction() as connection:
            query = jobs.update().where(jobs.c.id == job.id, jobs.c.owner == job.owner, jobs.c.attempt == job.attempt)
            return bool(connection.execute(query.values(**values)).rowcount)
