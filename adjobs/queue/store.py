"""The record of all queued jobs. Every change of a job's state is made here, with a row of history.

Two kinds of programs write at the same time: those of users, who submit, stop and reorder jobs, and dispatchers, who own the
jobs that they have claimed for as long as they renew their lease.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from adjobs.errors import QueueDatabaseError, QueueError, one_line
from adjobs.queue.records import MAX_ATTEMPTS, Change, NewJob, QueuedJob, Submission
from adjobs.queue.schema import READS_ONLY, history, jobs, one_at_a_time, open_engine, predecessors
from adjobs.queue.states import ENDED, HOLDING_SLOT, LIVE, NEXT, JobState

MAX_PRIORITY = 1000


class JobStore:
    """The queue's database."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        """Open it, making its tables if they are missing.

        Args:
            url: ``sqlite:///<file>`` or ``postgresql+pg8000://…``.
            clock: the time, in seconds since the epoch.

        Raises:
            QueueError: it cannot be opened.
        """
        self._engine = open_engine(url)
        self._reading_engine = self._engine.execution_options(**{READS_ONLY: True})
        # SQLite lets those who wait for it sleep up to 100 ms at a time, in no order; threads of one process need not.
        self._turn = threading.Lock()
        self._clock = clock

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # Users

    def submit(self, *new: NewJob) -> list[Submission]:
        """Queue jobs in this order, all or none; of one that equals a living one, that is the answer.

        Raises:
            QueueError: a job that one should wait for does not exist, or a priority is out of range.
        """
        with self.transaction() as connection:
            return [self._submit(connection, job) for job in new]

    def request_stop(self, identifier: str) -> QueuedJob:
        """Stop a job: a queued one ends at once, one that runs when its dispatcher has stopped it.

        Raises:
            QueueError: there is no such job, or it has ended.
        """
        with self.transaction() as connection:
            job = self._get(connection, identifier)
            if job.state in ENDED:
                raise QueueError(f"job {identifier} is {job.state} already; only jobs that wait or run can be stopped")
            if job.state is JobState.QUEUED:
                self._change(connection, job, JobState.STOPPED, "stopped by a user while it was queued")
            else:
                connection.execute(self._update(job).values(stop_requested=True))
            return self._get(connection, identifier)

    def requeue(self, identifier: str) -> QueuedJob:
        """Queue a job again that failed or was stopped; it goes on from its last checkpoint.

        Raises:
            QueueError: there is no such job, it lives, it is done, or an equal one lives.
        """
        with self.transaction() as connection:
            job = self._get(connection, identifier)
            if JobState.QUEUED not in NEXT[job.state] or job.state not in ENDED:
                raise QueueError(f"job {identifier} is {job.state}; only failed and stopped jobs can be resumed")
            if other := self._live_with_key(connection, job.key):
                raise QueueError(f"job {identifier}: the equal job {other} lives; wait for it or stop it first")
            values = {"stop_requested": False, "max_attempts": job.attempt + MAX_ATTEMPTS}
            self._change(connection, job, JobState.QUEUED, "resumed by a user", **values)
            return self._get(connection, identifier)

    def set_priority(self, identifier: str, priority: int) -> QueuedJob:
        """Change the priority of a queued job.

        Raises:
            QueueError: there is no such job, it does not wait, or the priority is out of range.
        """
        _refuse_priority(priority)
        with self.transaction() as connection:
            job = self._get(connection, identifier)
            if job.state is not JobState.QUEUED:
                raise QueueError(f"job {identifier} is {job.state}; only a queued job has a place in the order")
            connection.execute(self._update(job).values(priority=priority))
            return self._get(connection, identifier)

    def get(self, identifier: str) -> QueuedJob:
        """A job by its id, or by its first digits if they are unique.

        Raises:
            QueueError: there is none, or several.
        """
        with self.reading() as connection:
            return self._get(connection, identifier)

    def select(self, states: Sequence[JobState] = (), user: str | None = None, limit: int = 10_000) -> list[QueuedJob]:
        """Jobs of these states (all if none is given), the latest submitted first, at most ``limit``."""
        with self.reading() as connection:
            rows = connection.execute(_chosen(sa.select(jobs), states, user, limit)).mappings()
            return [QueuedJob.from_row(row) for row in rows]

    def summaries(self, states: Sequence[JobState] = (), user: str | None = None, limit: int = 10_000) -> list[QueuedJob]:
        """As :meth:`select`, but of each spec only verb, method and address of the data: many whole ones take long to decode."""
        spec = jobs.c.spec
        data = sa.func.coalesce(spec["document", "data", "uri"].as_string(), spec["document", "data"].as_string())
        columns = [column for column in jobs.c if column is not spec]
        shown = (spec["verb"].as_string(), spec["document", "method"].as_string(), data)
        names = [column.name for column in columns]
        with self.reading() as connection:
            rows = connection.execute(_chosen(sa.select(*shown, *columns), states, user, limit))
            return [
                QueuedJob.from_row({**dict(zip(names, rest, strict=True)), "spec": _summary(verb, method, data)})
                for verb, method, data, *rest in rows
            ]

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

    def history_of(self, identifier: str) -> list[Change]:
        """What happened to a job, in order.

        Raises:
            QueueError: there is no such job.
        """
        with self.reading() as connection:
            job = self._get(connection, identifier)
            columns = (history.c.time, history.c.state, history.c.attempt, history.c.reason)
            rows = connection.execute(sa.select(*columns).where(history.c.job == job.id).order_by(history.c.number))
            return [Change(row.time, JobState(row.state), row.attempt, row.reason) for row in rows]

    def next_position(self, priority: int) -> int:
        """The place, from 1, that a job of this priority would have if it were submitted now."""
        queued = jobs.c.state == JobState.QUEUED.value
        query = sa.select(sa.func.count()).where(queued, jobs.c.priority >= priority)
        with self.transaction() as connection:
            return 1 + int(connection.execute(query).scalar_one())

    def unfinished_predecessors(self, identifier: str) -> list[str]:
        """The jobs that a job waits for and that are not done."""
        query = sa.select(predecessors.c.predecessor).join(jobs, jobs.c.id == predecessors.c.predecessor)
        query = query.where(predecessors.c.job == identifier, jobs.c.state != JobState.DONE.value).order_by(jobs.c.seq)
        with self.reading() as connection:
            return list(connection.execute(query).scalars())

    def prune(self, ended_before: float) -> int:
        """Delete jobs that ended before a time, and that no live job waits for; returns their number."""
        awaited = sa.select(predecessors.c.predecessor).join(jobs, jobs.c.id == predecessors.c.job)
        awaited = awaited.where(jobs.c.state.in_([state.value for state in LIVE]))
        old = jobs.c.state.in_([state.value for state in ENDED]) & (jobs.c.ended_at < ended_before)
        with self.transaction() as connection:
            return int(connection.execute(jobs.delete().where(old, jobs.c.id.not_in(awaited))).rowcount)

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
        with self.transaction() as connection:
            self._fail_orphaned(connection)
            holding = [state.value for state in HOLDING_SLOT]
            per_user = sa.select(jobs.c.user, sa.func.count()).where(jobs.c.state.in_(holding)).group_by(jobs.c.user)
            counts: dict[str, int] = {row[0]: row[1] for row in connection.execute(per_user)}
            if sum(counts.values()) >= slots:
                return None
            full = [user for user, count in counts.items() if max_per_user is not None and count >= max_per_user]
            row = connection.execute(self._next_eligible(full)).mappings().first()
            if row is None:
                return None
            job = QueuedJob.from_row(row)
            now = self._clock()
            values = {"owner": owner, "attempt": job.attempt + 1, "lease_until": now + lease_seconds, "started_at": now}
            values["progress"] = None  # that of an earlier attempt says nothing of this one
            self._change(connection, job, JobState.STARTING, "claimed", **values)
            return self._get(connection, job.id)

    def adopt(self, owner: str, lease_seconds: float) -> list[QueuedJob]:
        """The jobs that hold a slot and are this dispatcher's: its own, and those whose lease is over. Renews their lease."""
        now = self._clock()
        holding = jobs.c.state.in_([state.value for state in HOLDING_SLOT])
        # A lease that is longer than any is of a time before the clock was set back.
        is_over = (jobs.c.lease_until < now) | (jobs.c.lease_until > now + 2 * lease_seconds)
        mine = holding & ((jobs.c.owner == owner) | is_over)
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

    def move(self, job: QueuedJob, state: JobState, reason: str) -> bool:
        """Change the state of an owned job; returns False and changes nothing if it is no longer this owner's attempt."""
        with self.transaction() as connection:
            current = self._get(connection, job.id)
            if (current.owner, current.attempt) != (job.owner, job.attempt) or current.state not in HOLDING_SLOT:
                return False
            if current.state is state:  # by a twin of this dispatcher that was believed dead
                return False
            if state is JobState.QUEUED and current.stop_requested:  # since the dispatcher read the job
                state, reason = JobState.STOPPED, "stopped by a user"
            self._change(connection, current, state, reason)
            return True

    def note(self, job: QueuedJob, **values: Any) -> bool:
        """Set ``reason``, ``run_id`` or ``progress`` of a job, as long as it is this owner's attempt."""
        unknown = values.keys() - {"reason", "run_id", "progress"}
        assert not unknown, unknown
        with self.transaction() as connection:
            query = jobs.update().where(jobs.c.id == job.id, jobs.c.owner == job.owner, jobs.c.attempt == job.attempt)
            return bool(connection.execute(query.values(**values)).rowcount)

    # Everybody

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction, alone among those that write to the queue; database errors become ours, in one line."""
        with self._turn, _translated(), self._engine.begin() as connection:
            one_at_a_time(connection)
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that writes nothing, and neither waits for others nor keeps them waiting."""
        with _translated(), self._reading_engine.begin() as connection:
            yield connection

    # Inside a transaction

    def _submit(self, connection: sa.Connection, job: NewJob) -> Submission:
        _refuse_priority(job.priority)
        after = self._find_predecessors(connection, job.after)
        existing = self._live_with_key(connection, job.key)
        if existing is not None:
            return Submission(existing, False, self._position(connection, existing))
        identifier = uuid.uuid4().hex[:12]
        connection.execute(jobs.insert().values(**self._new_row(identifier, job)))
        if after:
            rows = [{"job": identifier, "predecessor": name} for name in after]
            connection.execute(predecessors.insert(), rows)
        self._record(connection, identifier, JobState.QUEUED, 0, f"submitted by {job.user}")
        return Submission(identifier, True, self._position(connection, identifier))

    def _new_row(self, identifier: str, job: NewJob) -> dict[str, Any]:
        fixed = {"state": JobState.QUEUED.value, "attempt": 0, "stop_requested": False, "owner": "", "lease_until": 0.0}
        given = {name: getattr(job, name) for name in ("key", "priority", "user", "name", "max_attempts")}
        return {"id": identifier, "spec": dict(job.spec), "created_at": self._clock(), "reason": "", **fixed, **given}

    def _find_predecessors(self, connection: sa.Connection, identifiers: Iterable[str]) -> list[str]:
        """Their ids, each once."""
        try:
            return list(dict.fromkeys(self._get(connection, name).id for name in identifiers))
        except QueueError as error:
            raise QueueError(f"--after: {error}") from error

    @staticmethod
    def _live_with_key(connection: sa.Connection, key: str) -> str | None:
        # As literals: with parameters, SQLite would not use the index of live jobs, and read them all.
        live: sa.BindParameter[Any] = sa.bindparam("live", [state.value for state in LIVE], expanding=True, literal_execute=True)
        query = sa.select(jobs.c.id).where(jobs.c.key == key, jobs.c.state.in_(live))
        identifier: str | None = connection.execute(query).scalar()
        return identifier

    @staticmethod
    def _get(connection: sa.Connection, identifier: str) -> QueuedJob:
        query = sa.select(jobs).where(jobs.c.id.startswith(identifier, autoescape=True)).limit(2)
        rows = connection.execute(query).mappings().all()
        if len(rows) != 1 or not identifier:
            problem = "several jobs begin so; give more digits" if rows and identifier else "no such job"
            raise QueueError(f"job {identifier!r}: {problem}; list them with 'adjobs jobs list'")
        return QueuedJob.from_row(rows[0])

    @staticmethod
    def _position(connection: sa.Connection, identifier: str) -> int:
        """Place in the order, from 1; 0 for a job that does not wait."""
        is_queued = jobs.c.state == JobState.QUEUED.value
        mine = sa.select(jobs.c.priority, jobs.c.seq).where(jobs.c.id == identifier, is_queued)
        row = connection.execute(mine).first()
        if row is None:
            return 0
        before = (jobs.c.priority > row.priority) | ((jobs.c.priority == row.priority) & (jobs.c.seq <= row.seq))
        query = sa.select(sa.func.count()).where(is_queued, before)
        return int(connection.execute(query).scalar_one())

    @staticmethod
    def _update(job: QueuedJob) -> sa.Update:
        return jobs.update().where(jobs.c.seq == job.seq)

    @staticmethod
    def _next_eligible(full_users: Sequence[str]) -> sa.Select[Any]:
        """The first queued job that waits for no other, of a user who may have one more."""
        before = jobs.alias()
        waits = sa.exists().where(
            predecessors.c.job == jobs.c.id, before.c.id == predecessors.c.predecessor, before.c.state != JobState.DONE.value
        )
        query = sa.select(jobs).where(jobs.c.state == JobState.QUEUED.value, ~waits)
        query = query.where(jobs.c.user.not_in(full_users)) if full_users else query
        return query.order_by(jobs.c.priority.desc(), jobs.c.seq).limit(1)

    def _fail_orphaned(self, connection: sa.Connection) -> None:
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
                self._change(connection, job, JobState.FAILED, reason)

    def _change(self, connection: sa.Connection, job: QueuedJob, state: JobState, reason: str, **values: Any) -> None:
        """The one place where a state changes."""
        assert state in NEXT[job.state], (job.state, state)
        ended_at = self._clock() if state in ENDED else None
        owner = values.pop("owner", job.owner if state in HOLDING_SLOT else "")
        fixed = {"state": state.value, "reason": reason, "ended_at": ended_at, "owner": owner}
        connection.execute(self._update(job).values(**fixed, **values))
        self._record(connection, job.id, state, values.get("attempt", job.attempt), reason)

    def _record(self, connection: sa.Connection, identifier: str, state: JobState, attempt: int, reason: str) -> None:
        row = {"job": identifier, "time": self._clock(), "state": state.value, "attempt": attempt, "reason": reason}
        connection.execute(history.insert().values(**row))


def _summary(verb: str | None, method: str | None, data: str | None) -> dict[str, Any]:
    return {"verb": verb, "document": {"method": method, "data": data}}


def _chosen(query: sa.Select[Any], states: Sequence[JobState], user: str | None, limit: int) -> sa.Select[Any]:
    query = query.order_by(jobs.c.seq.desc()).limit(limit)
    query = query.where(jobs.c.state.in_([state.value for state in states])) if states else query
    return query.where(jobs.c.user == user) if user is not None else query


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, OSError) as error:  # pg8000 lets errors of its socket through as they are
        cause = one_line(error)[:200]
        raise QueueDatabaseError(f"the queue's database failed ({cause}); check that it runs and has space") from error


def _refuse_priority(priority: int) -> None:
    if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise QueueError(f"priority: got {priority}; must be between -{MAX_PRIORITY} and {MAX_PRIORITY}")
