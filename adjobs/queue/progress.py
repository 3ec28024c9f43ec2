"""What a driver says of its progress, for the queue to show."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace

from adjobs.comparison.observer import ComparisonObserver
from adjobs.errors import StorageError
from adjobs.queue.folder import JobFolder, JobProgress
from adjobs.retraining.observer import RetrainObserver
from adjobs.tracking.layout import RunRef
from adjobs.training.progress import ProgressUpdate, peak_resident_mib
from adjobs.tuning.search import SearchObserver
from adjobs.tuning.trial_manager import TrialManager

INTERVAL_SECONDS = 5.0

log = logging.getLogger(__name__)


class ProgressReporter(RetrainObserver, ComparisonObserver):
    """Stores in the job's folder how far an attempt is, at most every five seconds, and passes everything on."""

    def __init__(
        self,
        folder: JobFolder,
        attempt: int,
        on_progress: Callable[[ProgressUpdate], None],
        observer: SearchObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without storing anything.

        Args:
            folder: of the job.
            attempt: whose progress it is.
            on_progress: shows that of a training.
            observer: shows that of a search.
            clock: in seconds.
        """
        self._folder, self._attempt, self._clock = folder, attempt, clock
        self._on_progress, self._observer = on_progress, observer
        self._manager: TrialManager | None = None
        self._training = ""  # of a comparison
        self._stored_at = -math.inf
        self._stored: JobProgress | None = None
        self._latest: JobProgress | None = None
        self._memory_mib = self._gpu_memory_mib = 0.0
        self._stage_start: tuple[str, int, float] = ("", 0, 0.0)  # its name, and the steps and the time of its first update here

    def on_training(self, update: ProgressUpdate) -> None:
        """The training of the job progressed."""
        self._on_progress(update)
        self._memory_mib = max(self._memory_mib, update.memory_mib and update.memory_mib + peak_resident_mib())
        self._gpu_memory_mib = max(self._gpu_memory_mib, update.gpu_memory_mib)
        memory, gpu_memory = self._memory_mib or None, self._gpu_memory_mib or None
        self._store(replace(self._of_training(update), memory_mib=memory, gpu_memory_mib=gpu_memory))

    def on_end(self) -> None:
        """The job is done: what was reported last is stored, whatever its time."""
        if self._latest is not None and self._latest != self._stored:
            self._write(self._latest)

    def on_open(self, run: RunRef) -> None:
        """The run of a search or a comparison is open: a later attempt, and the queue's list, find it in the job's folder."""
        self._observer.on_open(run)
        self._folder.write_run(run)

    def on_start(self, name: str, manager: TrialManager) -> None:
        """The first trials start."""
        self._manager = manager
        self._observer.on_start(name, manager)
        self.on_change()

    def on_change(self) -> None:
        """A trial started, reported or ended."""
        self._observer.on_change()
        if self._manager is not None:
            self._store(_of_search(self._manager))

    def on_trials_end(self) -> None:
        """No trial is running any more."""
        self._observer.on_trials_end()

    def on_training_start(self, text: str) -> None:
        """A training of a comparison starts."""
        self._training = f"{text}, "
        log.info("%s", text)

    def on_training_end(self, text: str) -> None:
        """A training of a comparison ended."""
        log.info("%s", text)

    def on_progress(self, update: ProgressUpdate) -> None:
        """The final training of a search progressed, a training of a comparison, or that of a retraining."""
        self._observer.on_progress(update)
        self._store(self._of_training(update))

    def _of_training(self, update: ProgressUpdate) -> JobProgress:
        stage, done, since = self._stage_start
        now = self._clock()
        if update.stage != stage or update.done < done:  # a new stage, or back to a checkpoint
            stage, done, since = self._stage_start = (update.stage, update.done, now)
        seconds_left = (update.total - update.done) * (now - since) / (update.done - done) if update.done > done else None
        loss = update.loss if math.isfinite(update.loss) else None
        images_per_s = update.images_per_s if math.isfinite(update.images_per_s) else None
        stage = f"{self._training}{update.stage}"
        return JobProgress(stage, update.done, update.total, loss, images_per_s, seconds_left)

    def _store(self, progress: JobProgress) -> None:
        self._latest = progress
        is_same = self._stored is not None and (progress.stage, progress.done) == (self._stored.stage, self._stored.done)
        if not is_same and self._clock() - self._stored_at >= INTERVAL_SECONDS:
            self._write(progress)

    def _write(self, progress: JobProgress) -> None:
        self._stored, self._stored_at = progress, self._clock()
        try:
            self._folder.write_progress(self._attempt, progress)
        except StorageError as error:  # a training goes on without
            log.warning("the queue does not see the progress of this job (%s)", error)


def _of_search(manager: TrialManager) -> JobProgress:
    left = manager.seconds_left
    return JobProgress("trials", len(manager.ended), manager.total, seconds_left=None if left is None else max(left, 0.0))
