"""The driver of a queued job: a process that Ray starts on some node for one attempt.

It stops by itself, within seconds and without writing to MLflow, when a later attempt has begun: the head that started it may
have been lost, and the run now belongs to the other. Until then a fence keeps its workers from storing checkpoints and models.

How it ends it stores, and says once more by its exit status: the storage may be down.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from adjobs.comparison.config import ComparisonConfig, parse_comparison
from adjobs.comparison.observer import ComparisonObserver
from adjobs.comparison.run import resume_comparison, run_comparison
from adjobs.config import resolve
from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.errors import AdjobsError, ClusterError, DamagedError, Stopped, StorageError, SupersededError, TrackingError, one_line
from adjobs.jobs import run
from adjobs.jobs.lifecycle import fenced, is_driver_alive
from adjobs.queue.folder import INTERRUPTED, AttemptEnd, JobFolder, JobSpec
from adjobs.queue.progress import ProgressReporter
from adjobs.queue.states import ExitStatus
from adjobs.retraining.config import RetrainConfig, parse_retraining
from adjobs.retraining.observer import RetrainObserver
from adjobs.tracking import comparison as comparisons
from adjobs.tracking import search as records
from adjobs.tracking.client import connect
from adjobs.tracking.comparison import StoredComparison
from adjobs.tracking.layout import RunRef, StoredRun
from adjobs.tracking.runs import open_reader
from adjobs.tracking.search import StoredSearch
from adjobs.tuning import search
from adjobs.tuning.plan import SearchOptions
from adjobs.tuning.search import SearchObserver
from adjobs.tuning.space import parse_space
from adjobs.types import JobStatus

CHECK_SECONDS = 10.0
PATIENCE_SECONDS = 300.0
"""An attempt waits so long for storage and MLflow before it starts."""

TRANSIENT = (ClusterError, StorageError, TrackingError, OSError, MemoryError)
"""Errors of the systems around a job, which another attempt may not meet."""

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


def drive(job: str, attempt: int, settings: Settings, on_progress: run.OnProgress, observer: SearchObserver) -> dict[str, Any]:
    """Run one attempt of a queued job, and record how it ends.

    Args:
        job: its id.
        attempt: from 1.
        settings: where MLflow, storage and Ray are.
        on_progress: called with the progress of a training.
        observer: called while a search runs.

    Returns:
        The result, as JSON.

    Raises:
        AdjobsError: what went wrong; it is recorded.
        Stopped: the process was asked to stop.
    """
    folder = JobFolder.open(settings.artifacts, job)
    try:
        patiently(lambda: folder.start_driver(attempt), StorageError)
    except ClusterError as error:  # two of one attempt would not stop each other; a later attempt stops both
        _record_end(folder, attempt, AttemptEnd("lost", str(error)))
        raise
    reporter = ProgressReporter(folder, attempt, on_progress, observer)
    with _ended_when_superseded(folder, attempt), fenced(folder.fence(attempt)):
        try:
            spec = patiently(folder.spec, StorageError)
            result = _run(job, spec, folder, settings, reporter)
            reporter.on_end()
        except (Stopped, KeyboardInterrupt):  # it cannot know by whom
            _record_end(folder, attempt, INTERRUPTED)
            raise
        except SupersededError:  # how the job ends is for the later attempt to say
            raise
        except (AdjobsError, *TRANSIENT) as error:
            _record_end(folder, attempt, AttemptEnd("lost" if isinstance(error, TRANSIENT) else "failed", describe(error)))
            raise
        _record_end(folder, attempt, AttemptEnd("done", result.get("sentence", "succeeded")))
    return result


def exit_status(error: Exception) -> ExitStatus:
    """What the process of a driver ends with after an error of :func:`drive`."""
    if isinstance(error, SupersededError):
        return ExitStatus.SUPERSEDED
    return ExitStatus.LOST if isinstance(error, TRANSIENT) else ExitStatus.FAILED


def describe(error: Exception) -> str:
    """An error of :func:`drive` on one line."""
    return str(error) if isinstance(error, AdjobsError) else f"this node refuses: {one_line(error)}; check its disk and memory"


def patiently(read: Callable[[], Answer], transient: type[AdjobsError], seconds: float = PATIENCE_SECONDS) -> Answer:
    """What a system answers that may be restarted just now.

    Args:
        read: asks it.
        transient: its error as long as it does not answer.
        seconds: after which that error is raised.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return read()
        except transient as error:
            if isinstance(error, DamagedError) or time.monotonic() > deadline:
                raise
            log.warning("%s; trying again for at most %.0f s", error, deadline - time.monotonic())
            time.sleep(CHECK_SECONDS / 2)


def _record_end(folder: JobFolder, attempt: int, end: AttemptEnd) -> None:
    try:
        folder.write_end(attempt, end)
    except StorageError as error:  # the exit status says it, too
        log.warning("the end of attempt %d (%s) is not stored: %s", attempt, end.state, error)


def _run(job: str, spec: JobSpec, folder: JobFolder, settings: Settings, reporter: ProgressReporter) -> dict[str, Any]:
    source, name = f"job {job}", f"{spec.name}-{job}"
    if spec.verb == "compare":
        comparison = parse_comparison(spec.document, source)
        patiently(lambda: connect(settings.tracking_uri), TrackingError)
        return _compare(name, comparison, settings, reporter)
    if spec.verb == "retrain":
        patiently(lambda: connect(settings.tracking_uri), TrackingError)
        return _retrain(parse_retraining(spec.document, source), folder, settings, reporter)
    config = resolve.resolve(spec.document, source=source)
    if config.track is not None:
        patiently(lambda: connect(settings.tracking_uri), TrackingError)
    if spec.verb == "train":
        return _train(config, folder, settings, reporter.on_training)
    return _search(name, config, spec, settings, reporter)


def _compare(name: str, config: ComparisonConfig, settings: Settings, observer: ComparisonObserver) -> dict[str, Any]:
    """Compare, or go on with the comparison of an earlier attempt, which has the same name."""
    try:
        stored = comparisons.find_comparison(settings.tracking_uri, name)
    except TrackingError:  # none yet, or MLflow is down, which ends the new comparison as well
        return run_comparison(config, settings, observer, backend="ray", name=name).to_dict()
    observer.on_open(stored.ref)
    if stored.status == JobStatus.FINISHED:
        return {"run_id": stored.ref.run_id, "tracking_uri": stored.ref.tracking_uri}
    _wait_for_end_of_driver(lambda: comparisons.find_comparison(settings.tracking_uri, name))
    return resume_comparison(name, settings, observer).to_dict()


def _retrain(config: RetrainConfig, folder: JobFolder, settings: Settings, observer: RetrainObserver) -> dict[str, Any]:
    """Do a pass if one is due, or go on with the one of an earlier attempt, whose lease may take a while to be over."""
    from adjobs.retraining.run import run_retraining

    result = run_retraining(config, settings, observer, backend="ray", wait_s=PATIENCE_SECONDS)
    if result.run_id is not None:
        folder.write_run(RunRef(settings.tracking_uri, result.run_id))
    return {**result.to_dict(), "tracking_uri": settings.tracking_uri}


def _train(config: JobConfig, folder: JobFolder, settings: Settings, on_progress: run.OnProgress) -> dict[str, Any]:
    """Train, or go on with the run of an earlier attempt."""
    earlier = folder.run()
    if earlier is None:
        return run.train(config, settings, backend="ray", on_progress=on_progress, on_open=folder.write_run).to_dict()
    if open_reader(earlier).stored_run().status == JobStatus.FINISHED:  # an earlier attempt died after it had closed its run
        return {"run_id": earlier.run_id, "tracking_uri": earlier.tracking_uri}
    _wait_for_end_of_driver(lambda: open_reader(earlier).stored_run())
    return run.resume(earlier, settings, on_progress=on_progress).to_dict()


def _search(name: str, config: JobConfig, spec: JobSpec, settings: Settings, observer: SearchObserver) -> dict[str, Any]:
    """Search, or go on with the search of an earlier attempt, which has the same name."""
    options = dict(spec.options or {})
    budget = options.pop("time_budget_s", None)
    options["metrics"] = tuple(options.get("metrics", ()))
    try:
        stored = records.find_search(settings.tracking_uri, name)
    except TrackingError:  # none yet, or MLflow is down, which ends the new search as well
        space = parse_space(spec.space, f"space of job {spec.name}")
        result = search.run_search(config, space, SearchOptions(**options), settings, observer, name=name, time_budget_s=budget)
        return result.to_dict()
    observer.on_open(stored.ref)  # the earlier driver may have died before it could store which run it is
    if stored.status == JobStatus.FINISHED:
        return {"run_id": stored.ref.run_id, "tracking_uri": stored.ref.tracking_uri}
    _wait_for_end_of_driver(lambda: records.find_search(settings.tracking_uri, name))
    return search.resume_search(name, settings, observer).to_dict()


def _wait_for_end_of_driver(read: Callable[[], StoredRun | StoredSearch | StoredComparison]) -> None:
    """Give the driver of an earlier attempt on this machine the time to notice that it is superseded."""
    deadline = time.monotonic() + 3 * CHECK_SECONDS
    while time.monotonic() < deadline:
        stored = read()
        if stored.status != JobStatus.RUNNING or not is_driver_alive(stored.tags):
            return
        time.sleep(1)


@contextmanager
def _ended_when_superseded(folder: JobFolder, attempt: int) -> Iterator[None]:
    """End the process as soon as a later attempt has begun."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(CHECK_SECONDS):
            try:
                is_current = folder.is_current(attempt)
            except AdjobsError:
                continue  # the storage may be down, and then nothing can be written there either
            if not is_current:
                log.error("a later attempt of this job has begun; this one ends here")
                os._exit(ExitStatus.SUPERSEDED)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
