"""The dispatcher hands queued jobs to Ray, follows them and records how they end.

It keeps nothing in memory: killed at any moment and started again, or beside another one, it goes on with what the store says.
A claim is committed before Ray hears of the job, under an id of job and attempt that Ray accepts once only.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

from adjobs.config.settings import WORKING_DIR_VARIABLE
from adjobs.errors import AdjobsError, DamagedError, QueueError, RefusedError, SupersededError, one_line, shorten
from adjobs.queue.folder import INTERRUPTED, AttemptEnd, JobFolder
from adjobs.queue.ray_jobs import Cluster, RayJob, RayStatus
from adjobs.queue.records import QueuedJob
from adjobs.queue.states import ExitStatus, JobState
from adjobs.queue.store import JobStore

LEASE_SECONDS = 60.0
"""A dispatcher that takes longer, such as for many jobs of a head that does not answer, loses them to another one, unharmed."""

MAX_REFUSALS = 30
"""Times that a head that answers may refuse a job; it is asked every second."""

MAX_STARTS = 50
"""Of a job: from then on, an attempt that is interrupted counts as one that is lost."""

ERROR_PREFIX = "error: "
"""Of the line on which a driver, like every verb, prints the error that ends it."""

Read = TypeVar("Read")

log = logging.getLogger(__name__)

_RUNNING = "running"
_STOPPED = "stopped by a user"


@dataclass(frozen=True)
class Limits:
    """How many jobs may hold a slot at once, in all and of one user (None: as many as there are slots)."""

    slots: int
    max_per_user: int | None = None


class Dispatcher:
    """One dispatcher; several at once share the work."""

    def __init__(
        self,
        name: str,
        store: JobStore,
        cluster: Cluster,
        open_folder: Callable[[str], JobFolder],
        limits: Limits,
        environment: Mapping[str, str],
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Without connecting.

        Args:
            name: unique among living dispatchers, and the same after a restart on the same machine.
            store: the record of the jobs.
            cluster: where drivers run.
            open_folder: opens the folder of a job by its id.
            limits: how many jobs run at once.
            environment: variables of every driver; no secrets, since Ray shows them.
            lease_seconds: after which another dispatcher may take over what this one has not followed.
        """
        self._name, self._store, self._cluster = name, store, cluster
        self._open_folder, self._limits, self._environment = open_folder, limits, environment
        self._lease_seconds = lease_seconds

    def run(self, poll_seconds: float, should_stop: Callable[[], bool], submit_due: Callable[[], None] = lambda: None) -> None:
        """Dispatch until ``should_stop``; jobs that run then go on without it. ``submit_due`` submits the jobs of schedules."""
        while not should_stop():
            submit_due()
            if not self.step():
                time.sleep(poll_seconds)

    def step(self) -> bool:
        """Follow every job that is this dispatcher's, and start what may start; returns whether one was started."""
        for job in self._store.adopt(self._name, self._lease_seconds):
            try:
                self._follow(job)
            except QueueError:
                raise
            except Exception as error:
                self._note_error(job, error)
        started = False
        while claimed := self._claim():
            started = True
            try:
                self._start(claimed)
            except QueueError:
                raise
            except Exception as error:
                self._note_error(claimed, error)
                break  # the next ones would most likely fail too; this one is tried again when it is followed
        return started

    def _claim(self) -> QueuedJob | None:
        return self._store.claim(self._name, self._limits.slots, self._lease_seconds, self._limits.max_per_user)

    def _note_error(self, job: QueuedJob, error: Exception) -> None:
        """Keep an error as the job's reason. What nobody expected must not end the dispatcher either: it would meet it again."""
        reason = str(error)
        if not isinstance(error, AdjobsError):
            reason = f"the dispatcher cannot go on with this job ({one_line(error)}); its log says more"
        if reason == job.reason:  # every second
            return
        if not isinstance(error, AdjobsError):
            log.error("job %s: %r", job.id, error, exc_info=error)
        self._store.note(job, reason=reason)

    def _follow(self, job: QueuedJob) -> None:
        seen = self._cluster.job(job.submission_id)
        folder = self._open_folder(job.id)
        if job.run_id is None and (run := _undamaged(folder.run)):
            self._store.note(job, run_id=run.run_id)
        if seen is None:
            self._follow_unknown(job, folder)
        elif seen.status.has_ended:
            self._note_progress(job, folder)  # with the most memory that it needed
            self._end(job, _undamaged(lambda: folder.end(job.attempt)) or _end_of(seen), seen.status is RayStatus.STOPPED)
        elif job.stop_requested:
            self._cluster.stop(job.submission_id)
        elif job.state is JobState.STARTING and seen.status is RayStatus.RUNNING:
            self._store.move(job, JobState.RUNNING, _RUNNING)
        else:
            self._note_running(job, folder)

    def _note_progress(self, job: QueuedJob, folder: JobFolder) -> None:
        progress = _undamaged(lambda: folder.progress(job.attempt))
        if progress is not None and asdict(progress) != job.progress:
            self._store.note(job, progress=asdict(progress))

    def _note_running(self, job: QueuedJob, folder: JobFolder) -> None:
        self._note_progress(job, folder)
        if job.state is JobState.RUNNING and job.reason != _RUNNING:  # an error of Ray or of the storage that is over
            self._store.note(job, reason=_RUNNING)

    def _follow_unknown(self, job: QueuedJob, folder: JobFolder) -> None:
        """A head that answers does not know the job: it was never submitted, or the head was replaced."""
        end = _undamaged(lambda: folder.end(job.attempt))
        if end is not None:  # its driver outlived the head
            self._end(job, end)
        elif job.stop_requested:
            if self._store.is_held(job):
                folder.revoke(job.attempt)
            self._store.move(job, JobState.STOPPED, _STOPPED)
        elif job.state is JobState.STARTING and not folder.has_driver(job.attempt):
            self._start(job)
        else:
            self._end(job, AttemptEnd("lost", "the Ray head was lost with it"))

    def _start(self, job: QueuedJob) -> None:
        """Submit an attempt. From here on no earlier one may go on, wherever its driver still runs."""
        if not self._store.is_held(job):
            return  # this process slept so long that another dispatcher took the job over
        folder = self._open_folder(job.id)
        try:
            folder.write_spec(job.spec)
            folder.start_attempt(job.attempt)
        except SupersededError as error:
            self._end(job, AttemptEnd("lost", str(error)))
            return
        except (TypeError, ValueError, RecursionError) as error:
            self._end(job, AttemptEnd("failed", f"it cannot be stored as JSON ({one_line(error)}); submit it with other values"))
            return
        command = ["python", "-m", "adjobs.cli.driver", job.id, str(job.attempt)]  # that of the node, which has adjobs
        try:
            working_dir = job.spec.get("working_dir")
            self._cluster.submit(job.submission_id, shlex.join(command), self._environment_of(working_dir), working_dir)
        except RefusedError as error:
            self._give_up_if_refused_often(job, folder, error)
            return
        log.info("job %s: attempt %d submitted", job.id, job.attempt)

    def _environment_of(self, working_dir: str | None) -> dict[str, str]:
        return {**self._environment, **({} if working_dir is None else {WORKING_DIR_VARIABLE: working_dir})}

    def _give_up_if_refused_often(self, job: QueuedJob, folder: JobFolder, error: RefusedError) -> None:
        count = folder.count_refusal(job.attempt)
        if count < MAX_REFUSALS:
            raise error
        folder.revoke(job.attempt)  # in case that Ray accepted it, and its answer was lost
        self._end(job, AttemptEnd("failed", f"{error}; it did so {count} times"))

    def _end(self, job: QueuedJob, end: AttemptEnd, is_stopped: bool = False) -> None:
        """Record how an attempt ended; ``is_stopped`` if Ray says that somebody stopped it."""
        attempt, values = f"attempt {job.attempt} of {job.max_attempts}", {}
        if end.state == "done":
            state, reason = JobState.DONE, end.reason
        elif end.state == "failed":
            state, reason = JobState.FAILED, end.reason
        elif job.stop_requested or (is_stopped and end.state == "interrupted"):
            state, reason = JobState.STOPPED, _STOPPED
        elif end.state == "interrupted" and job.attempt < MAX_STARTS:
            state, reason = JobState.QUEUED, f"{attempt} was interrupted, and does not count: {end.reason}"
            values = {"max_attempts": job.max_attempts + 1}
        elif job.attempt < job.max_attempts:
            state, reason = JobState.QUEUED, f"{attempt} was lost: {end.reason}"
        else:
            state, reason = JobState.FAILED, f"the last of {job.max_attempts} attempts was lost: {end.reason}"
        if self._store.move(job, state, reason, **values):
            log.info("job %s: %s (%s)", job.id, state, reason)


def _undamaged(read: Callable[[], Read | None]) -> Read | None:
    """What a driver has stored; None, too, if it is damaged: what Ray says must do then."""
    try:
        return read()
    except DamagedError as error:
        log.warning("%s", error)
        return None


def _end_of(seen: RayJob) -> AttemptEnd:
    """How an attempt ended that did not say so itself: its process was killed, never started, or could not reach the storage."""
    if seen.status is RayStatus.SUCCEEDED:
        return AttemptEnd("done", "succeeded")
    if seen.status is RayStatus.STOPPED or seen.exit_code in (ExitStatus.INTERRUPTED, ExitStatus.TERMINATED):
        return INTERRUPTED
    return AttemptEnd("failed" if seen.exit_code == ExitStatus.FAILED else "lost", _reason(seen))


def _reason(seen: RayJob) -> str:
    """Why a driver ended: the signal that killed it, the error that it printed, its last line, or what Ray says instead."""
    if seen.exit_code is not None and seen.exit_code < 0:
        return f"its driver was killed by signal {-seen.exit_code}"
    lines = [line for line in seen.message.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(ERROR_PREFIX)]
    if errors:
        return errors[-1].removeprefix(ERROR_PREFIX)[:1000]
    if seen.exit_code is not None and lines:
        return f"its driver ended with status {seen.exit_code}: {shorten(lines[-1], 300)}"
    return shorten(seen.message, 300) or "its driver ended and gave no reason"
