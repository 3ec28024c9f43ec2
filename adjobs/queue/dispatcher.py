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

from adjobs.errors import AdjobsError, QueueError, SupersededError, one_line
from adjobs.queue.folder import AttemptEnd, JobFolder
from adjobs.queue.ray_jobs import Cluster, RayJob, RayStatus
from adjobs.queue.records import QueuedJob
from adjobs.queue.states import JobState
from adjobs.queue.store import JobStore

LEASE_SECONDS = 60.0
"""A dispatcher that takes longer, such as for many jobs of a head that does not answer, loses them to another one, unharmed."""

log = logging.getLogger(__name__)

_RUNNING = "running"
_STATES = {
    "done": JobState.DONE,
    "failed": JobState.FAILED,
    "stopped": JobState.STOPPED,
}


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
    ) -> None:
        """Without connecting.

        Args:
            name: unique among living dispatchers, and the same after a restart on the same machine.
            store: the record of the jobs.
            cluster: where drivers run.
            open_folder: opens the folder of a job by its id.
            limits: how many jobs run at once.
            environment: variables of every driver; no secrets, since Ray shows them.
        """
        self._name, self._store, self._cluster = name, store, cluster
        self._open_folder, self._limits, self._environment = open_folder, limits, environment

    def run(self, poll_seconds: float, should_stop: Callable[[], bool]) -> None:
        """Dispatch until ``should_stop``; jobs that run then go on without it."""
        while not should_stop():
            if not self.step():
                time.sleep(poll_seconds)

    def step(self) -> bool:
        """Follow every job that is this dispatcher's, and start what may start; returns whether one was started."""
        for job in self._store.adopt(self._name, LEASE_SECONDS):
            try:
                self._follow(job)
            except QueueError:
                raise
            except Exception as error:
                self._note_error(job, error)
        started = False
        while claimed := self._store.claim(self._name, self._limits.slots, LEASE_SECONDS, self._limits.max_per_user):
            started = True
            try:
                self._start(claimed)
            except QueueError:
                raise
            except Exception as error:
                self._note_error(claimed, error)
                break  # the next ones would most likely fail too; this one is tried again when it is followed
        return started

    def _note_error(self, job: QueuedJob, error: Exception) -> None:
        """Keep an error as the job's reason. What nobody expected must not end the dispatcher either: it would meet it again."""
        if not isinstance(error, AdjobsError):
            log.error("job %s: %r", job.id, error, exc_info=error)
            error = AdjobsError(f"the dispatcher cannot go on with this job ({one_line(error)}); its log says more")
        self._store.note(job, reason=str(error))

    def _follow(self, job: QueuedJob) -> None:
        seen = self._cluster.job(job.submission_id)
        folder = self._open_folder(job.id)
        if job.run_id is None and (run := folder.run()):
            self._store.note(job, run_id=run.run_id)
        if seen is None:
            self._follow_unknown(job, folder)
        elif seen.status.has_ended:
            self._end(job, _as_requested(folder.end(job.attempt) or _end_of(seen), seen, job))
        elif job.stop_requested:
            self._cluster.stop(job.submission_id)
        elif job.state is JobState.STARTING and seen.status is RayStatus.RUNNING:
            self._store.move(job, JobState.RUNNING, _RUNNING)
        else:
            self._note_progress(job, folder)

    def _note_progress(self, job: QueuedJob, folder: JobFolder) -> None:
        progress = folder.progress(job.attempt)
        if progress is not None and asdict(progress) != job.progress:
            self._store.note(job, progress=asdict(progress))
        if job.state is JobState.RUNNING and job.reason != _RUNNING:  # an error of Ray or of the storage that is over
            self._store.note(job, reason=_RUNNING)

    def _follow_unknown(self, job: QueuedJob, folder: JobFolder) -> None:
        """A head that answers does not know the job: it was never submitted, or the head was replaced."""
        end = folder.end(job.attempt)
        if end is not None:  # its driver outlived the head
            self._end(job, _as_requested(end, None, job))
        elif job.stop_requested:
            if self._store.is_held(job):
                folder.revoke(job.attempt)
            self._store.move(job, JobState.STOPPED, "stopped by a user")
        elif job.state is JobState.STARTING and not folder.has_driver(job.attempt):
            self._start(job)
        else:
            self._end(job, AttemptEnd("lost", "the Ray head was lost with it"))

    def _start(self, job: QueuedJob) -> None:
        """Submit an attempt. From here on no earlier one may go on, wherever its driver still runs."""
        if not self._store.is_held(job):
            return  # this process slept so long that another dispatcher took the job over
        folder = self._open_folder(job.id)
        folder.write_spec(job.spec)
        try:
            folder.start_attempt(job.attempt)
        except SupersededError as error:
            self._end(job, AttemptEnd("lost", str(error)))
            return
        command = ["python", "-m", "adjobs.cli.driver", job.id, str(job.attempt)]  # that of the node, which has adjobs
        self._cluster.submit(job.submission_id, shlex.join(command), self._environment)
        log.info("job %s: attempt %d submitted", job.id, job.attempt)

    def _end(self, job: QueuedJob, end: AttemptEnd) -> None:
        if end.state != "lost":
            state, reason = _STATES[end.state], end.reason
        elif job.stop_requested:
            state, reason = JobState.STOPPED, "stopped by a user"
        elif job.attempt < job.max_attempts:
            state, reason = JobState.QUEUED, f"attempt {job.attempt} of {job.max_attempts} was lost: {end.reason}"
        else:
            state, reason = JobState.FAILED, f"the last of {job.max_attempts} attempts was lost: {end.reason}"
        if self._store.move(job, state, reason):
            log.info("job %s: %s (%s)", job.id, state, reason)


def _as_requested(end: AttemptEnd, seen: RayJob | None, job: QueuedJob) -> AttemptEnd:
    """A driver that was stopped cannot know by whom: it is lost if its machine was shut down, or 'adjobs down' stopped it."""
    if end.state != "stopped" or job.stop_requested or (seen is not None and seen.status is RayStatus.STOPPED):
        return end
    return AttemptEnd("lost", "its driver was stopped, but not by a user of the queue")


def _end_of(seen: RayJob) -> AttemptEnd:
    """How an attempt ended that did not say so itself: its process was killed, or never started."""
    if seen.status is RayStatus.SUCCEEDED:
        return AttemptEnd("done", "succeeded")
    if seen.status is RayStatus.STOPPED:
        return AttemptEnd("stopped", "stopped by a user")
    return AttemptEnd("lost", " ".join(seen.message.split())[:300] or "its driver ended and gave no reason")
