"""Schedules: retrainings that are submitted again and again, at times that a cron expression gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Self
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from adjobs.errors import QueueError, ScheduleError, shown
from adjobs.queue.cron import check_cron, check_time_zone
from adjobs.queue.database import QueueDatabase
from adjobs.queue.folder import JobSpec
from adjobs.queue.records import NewJob, Submission
from adjobs.queue.schema import jobs, schedules
from adjobs.queue.states import JobState
from adjobs.queue.submitting import insert_jobs

MAX_SCHEDULES = 1000
"""Of a queue; its dispatcher looks at all of them every few seconds."""


@dataclass(frozen=True)
class NewSchedule:
    """What a user wants.

    Attributes:
        name: unique; a schedule with the same name is replaced.
        user: whose jobs they are.
        cron: five fields, see :mod:`adjobs.queue.cron`.
        time_zone: of the cron expression, as the IANA database has it.
        document: the retraining, as in its file.
    """

    name: str
    user: str
    cron: str
    time_zone: str
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Schedule:
    """A schedule of the queue.

    Attributes:
        name: see :class:`NewSchedule`; so are ``user``, ``cron``, ``time_zone`` and ``document``.
        paused: whether nothing is submitted.
        created_at: in seconds since the epoch, like ``fired``.
        fired: scheduled times up to this one have been acted on, or do not count.
        last_job: id of the job that it submitted last, or that was still there instead of a new one; None before the first.
        reason: what happened at the last time, "" before the first.
    """

    name: str
    user: str
    cron: str
    time_zone: str
    document: dict[str, Any]
    paused: bool
    created_at: float
    fired: float
    last_job: str | None
    reason: str

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> Self:
        """From a row of the table."""
        return cls(**{column.name: row[column.name] for column in schedules.c})

    def to_spec(self) -> JobSpec:
        """The job that it submits."""
        return JobSpec("retrain", self.name, self.document)

    def to_job(self, key: str) -> NewJob:
        """The same for the queue, with the key of a retraining."""
        return NewJob(key, self.to_spec().to_dict(), self.user, self.name)


class LastJob(NamedTuple):
    """The last job of a schedule, as far as the queue still has it."""

    state: JobState
    created_at: float


class Schedules:
    """The schedules in the queue's database. They change in transactions of which each is alone."""

    def __init__(self, database: QueueDatabase, clock: Callable[[], float] = time.time) -> None:
        """Without reading anything.

        Args:
            database: of the queue.
            clock: the time, in seconds since the epoch.
        """
        self._database, self._clock = database, clock

    def save(self, new: NewSchedule, may_replace: Callable[[Schedule], None] = lambda schedule: None) -> bool:
        """Add a schedule, or replace the one with its name; returns whether it was replaced. Times before now do not count.

        Args:
            new: the schedule.
            may_replace: called with the one that would be replaced; an error that it raises keeps it.

        Raises:
            ScheduleError: its cron expression or its time zone is wrong, or there are too many.
        """
        check_cron(new.cron)
        check_time_zone(new.time_zone)
        now = self._clock()
        fixed = {"paused": False, "created_at": now, "fired": now, "last_job": None, "reason": ""}
        row = {**vars(new), "document": dict(new.document), **fixed}
        with self._database.transaction() as connection:
            earlier = _find(connection, new.name)
            if earlier is not None:
                may_replace(earlier)
                connection.execute(schedules.delete().where(schedules.c.name == new.name))
            elif connection.execute(sa.select(sa.func.count()).select_from(schedules)).scalar_one() >= MAX_SCHEDULES:
                raise ScheduleError(f"the queue has {MAX_SCHEDULES} schedules, the most that it can have; remove one first")
            connection.execute(schedules.insert().values(**row))
        return earlier is not None

    def select(self, name: str | None = None) -> list[tuple[Schedule, LastJob | None]]:
        """All schedules by name, or the one with a name, each with its last job."""
        last = (jobs.c.state.label("job_state"), jobs.c.created_at.label("job_created_at"))
        query = sa.select(schedules, *last).outerjoin(jobs, jobs.c.id == schedules.c.last_job).order_by(schedules.c.name)
        if name is not None:
            query = query.where(schedules.c.name == name)
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            (
                Schedule.from_row(row),
                None if row["job_state"] is None else LastJob(JobState(row["job_state"]), row["job_created_at"]),
            )
            for row in rows
        ]

    def active(self) -> list[Schedule]:
        """Those that are not paused."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(schedules).where(~schedules.c.paused).order_by(schedules.c.name)).mappings()
            return [Schedule.from_row(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many are ``active`` and ``paused``."""
        query = sa.select(schedules.c.paused, sa.func.count()).group_by(schedules.c.paused)
        with self._database.reading() as connection:
            numbers = {bool(row[0]): row[1] for row in connection.execute(query)}
        return {"active": numbers.get(False, 0), "paused": numbers.get(True, 0)}

    def get(self, name: str) -> Schedule:
        """One by its name.

        Raises:
            QueueError: there is none.
        """
        with self._database.reading() as connection:
            return _get(connection, name)

    def pause(self, name: str) -> Schedule:
        """Submit nothing until :meth:`resume`.

        Raises:
            QueueError: there is none.
        """
        return self._update(name, paused=True)

    def resume(self, name: str) -> Schedule:
        """Go on with the next time; those that it missed while it was paused are not made up for.

        Raises:
            QueueError: there is none.
        """
        with self._database.transaction() as connection:
            if _get(connection, name).paused:
                _set(connection, name, paused=False, fired=self._clock())
            return _get(connection, name)

    def remove(self, name: str) -> Schedule:
        """Delete one; its jobs stay. Returns what it was.

        Raises:
            QueueError: there is none.
        """
        with self._database.transaction() as connection:
            schedule = _get(connection, name)
            connection.execute(schedules.delete().where(schedules.c.name == name))
            return schedule

    def submit_now(self, name: str, key: str, user: str) -> Submission:
        """Submit its job now, whatever its times.

        Args:
            name: of the schedule.
            key: of its retraining.
            user: who wants it.

        Raises:
            QueueError: there is none.
        """
        with self._database.transaction() as connection:
            schedule = _get(connection, name)
            submission = self._insert(connection, schedule, key)
            reason = f"started by {user}" if submission.created else _still_lives(submission.id)
            _set(connection, name, last_job=submission.id, reason=reason)
            return submission

    def fire(self, schedule: Schedule, moment: float, key: str) -> Submission | None:
        """Submit its job for a scheduled time, which is acted on from then on, in one transaction.

        Args:
            schedule: as it was read.
            moment: the scheduled time.
            key: of its retraining.

        Returns:
            None if the schedule has changed since it was read, such as by another dispatcher; then nothing happens.
        """
        with self._database.transaction() as connection:
            if not _is_unchanged(connection, schedule):
                return None
            submission = self._insert(connection, schedule, key)
            outcome = f"submitted job {submission.id}" if submission.created else _still_lives(submission.id)
            reason = f"{time_text(moment, schedule.time_zone)}: {outcome}"
            _set(connection, schedule.name, fired=moment, last_job=submission.id, reason=reason)
            return submission

    def note(self, schedule: Schedule, reason: str, fired: float | None = None) -> bool:
        """Store why nothing was submitted, and up to which time that holds; returns False if the schedule has changed."""
        with self._database.transaction() as connection:
            if not _is_unchanged(connection, schedule):
                return False
            _set(connection, schedule.name, reason=reason, fired=schedule.fired if fired is None else fired)
            return True

    def _insert(self, connection: sa.Connection, schedule: Schedule, key: str) -> Submission:
        (answer,) = insert_jobs(connection, [[schedule.to_job(key)]], self._clock())
        assert not isinstance(answer, QueueError), answer  # it waits for no other, and has no priority
        return answer[0]

    def _update(self, name: str, **values: Any) -> Schedule:
        with self._database.transaction() as connection:
            _get(connection, name)
            _set(connection, name, **values)
            return _get(connection, name)


def _find(connection: sa.Connection, name: str) -> Schedule | None:
    row = connection.execute(sa.select(schedules).where(schedules.c.name == name)).mappings().first()
    return None if row is None else Schedule.from_row(row)


def _get(connection: sa.Connection, name: str) -> Schedule:
    schedule = _find(connection, name)
    if schedule is None:
        raise QueueError(f"schedule {shown(name)}: no such schedule; list them with 'adjobs retrain list'")
    return schedule


def _set(connection: sa.Connection, name: str, **values: Any) -> None:
    connection.execute(schedules.update().where(schedules.c.name == name).values(**values))


def _is_unchanged(connection: sa.Connection, seen: Schedule) -> bool:
    """Whether a schedule has the times and the document with which it was read, and is not paused."""
    current = _find(connection, seen.name)
    if current is None or current.paused:
        return False
    return all(getattr(current, name) == getattr(seen, name) for name in ("fired", "cron", "time_zone", "document", "user"))


def _still_lives(job: str) -> str:
    return f"job {job}, the pass before, has not ended; there is no second one"


def time_text(moment: float, time_zone: str) -> str:
    """A time such as ``2026-11-28 02:00 CET``."""
    return f"{datetime.fromtimestamp(moment, ZoneInfo(time_zone)):%Y-%m-%d %H:%M %Z}"
