"""What submits the jobs of schedules when they are due. It keeps nothing in memory that matters; several at once do no harm."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from adjobs.errors import AdjobsError, ClusterError, DamagedError, QueueDatabaseError, StorageError, one_line
from adjobs.queue.admission import Admission, retraining_key
from adjobs.queue.cron import newest
from adjobs.queue.schedules import Schedule, Schedules, time_text

CHECK_SECONDS = 3.0
"""Between two looks at the schedules."""

CLOCK_SECONDS = 3600.0
"""If the last time that was acted on is further ahead of the clock, the clock was set back, and the schedule goes on from now:
it is not silent until then. Nearer ones are left as they are, and no time comes twice."""

log = logging.getLogger(__name__)


class Scheduler:
    """Looks at the schedules every few seconds, and submits for each that is due one job, however many times were missed."""

    def __init__(
        self,
        schedules: Schedules,
        admission: Admission,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without looking.

        Args:
            schedules: those of the queue.
            admission: checks their jobs.
            clock: the time, in seconds since the epoch.
            monotonic: in seconds; nobody sets it.
        """
        self._schedules, self._admission, self._clock, self._monotonic = schedules, admission, clock, monotonic
        self._next_check = float("-inf")

    def step(self) -> None:
        """Submit what is due, unless it was done a moment ago.

        Raises:
            QueueDatabaseError: the database fails.
        """
        if self._monotonic() < self._next_check:
            return
        self._next_check = self._monotonic() + CHECK_SECONDS
        now = self._clock()
        for schedule in self._schedules.active():
            try:
                self._check(schedule, now)
            except QueueDatabaseError:
                raise
            except Exception as error:  # one that nobody expected must not keep the others, or the dispatcher, from their work
                self._note_error(schedule, error)

    def _check(self, schedule: Schedule, now: float) -> None:
        moment = newest(schedule.cron, schedule.time_zone, schedule.fired, now)
        if schedule.fired > now + CLOCK_SECONDS:
            reason = f"the clock was set back; the schedule continues from {time_text(now, schedule.time_zone)}"
            self._schedules.note(schedule, reason, now)
            return
        if moment is None:
            return
        try:
            key = self._admit(schedule)
        except Exception as error:  # of this job; the next scheduled time tries again
            self._note_error(schedule, error, moment)
            return
        submission = self._schedules.fire(schedule, moment, key)
        if submission is not None:
            state = "submitted" if submission.created else "not submitted again, it has not ended:"
            log.info("schedule %s, %s: %s job %s", schedule.name, time_text(moment, schedule.time_zone), state, submission.id)

    def _admit(self, schedule: Schedule) -> str:
        """The key of its job. A storage or a head that does not answer now is what the job waits for, not a reason against it."""
        try:
            return self._admission.admit(schedule.to_spec())
        except DamagedError:
            raise
        except (StorageError, ClusterError) as error:
            log.warning("schedule %s: the job is queued without being checked: %s", schedule.name, error)
            return retraining_key(schedule.document["model"])

    def _note_error(self, schedule: Schedule, error: Exception, moment: float | None = None) -> None:
        reason = str(error)
        if not isinstance(error, AdjobsError):
            log.error("schedule %s: %r", schedule.name, error, exc_info=error)
            reason = f"the dispatcher cannot submit this ({one_line(error)}); its log says more"
        if moment is not None:
            reason = f"{time_text(moment, schedule.time_zone)}: {reason}"
        if moment is not None or reason != schedule.reason:  # an error of its times comes every few seconds
            self._schedules.note(schedule, reason, moment)
