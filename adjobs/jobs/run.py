"""From a job to a finished run: prepare, open the run, train here or on Ray, close the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, TypeVar

from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.errors import JobError, TrackingError
from adjobs.jobs.announce import announce_job
from adjobs.jobs.data import ensure_same_data, prepare_data
from adjobs.jobs.finalize import finalize_run
from adjobs.jobs.lifecycle import (
    driver_tags,
    ensure_not_running,
    managed_run,
    open_run,
    reopen_run,
    storage_of,
    task_of,
)
from adjobs.jobs.prepare import PreparedJob, prepare
from adjobs.jobs.result import FinalizedRun, TrainResult
from adjobs.tracking.layout import JOB_FILE, REQUEST_TAG, SPLIT_FILE, ParentRun, RunRef
from adjobs.tracking.parents import COMMANDS, find_requested_run
from adjobs.tracking.runs import open_reader, open_writer
from adjobs.training.backends import local
from adjobs.training.backends import ray as ray_backend
from adjobs.training.progress import ProgressUpdate
from adjobs.training.worker import FinishedTraining, Task
from adjobs.types import JobStatus

Backend = Literal["local", "ray"]
OnProgress = Callable[[ProgressUpdate], None]
Outcome = TypeVar("Outcome")


class TrainRequest(NamedTuple):
    """Who has a job trained: an id of the caller, and the command that goes on when it is interrupted."""

    id: str
    command: str


def train(
    job: JobConfig,
    settings: Settings,
    *,
    backend: Backend,
    on_progress: OnProgress,
    parent: ParentRun | None = None,
    on_open: Callable[[RunRef], None] | None = None,
    request: TrainRequest | None = None,
) -> TrainResult:
    """Train a job from the start.

    Args:
        job: the resolved job.
        settings: where MLflow, storage and Ray are.
        backend: ``local`` trains in this process, ``ray`` on a cluster.
        on_progress: called with the progress.
        parent: the search that it belongs to.
        on_open: called with the run when it is open, before it trains.
        request: by whom it was requested; None for a run of its own.

    Raises:
        AdjobsError: the job cannot be done; most reasons are found before a run is opened.
    """
    started_at = time.perf_counter()
    prepared = prepare(job, settings)
    with training_backend(prepared.job, settings, backend, on_progress, finalize_run) as run_task:
        if parent is None:  # what belongs to a search or a comparison was announced with that
            announce_job(prepared)
        tags = {"launcher": backend} | ({} if request is None else {REQUEST_TAG: request.id})
        task = open_run(prepared, settings, tags, parent)
        with managed_run(task.run, resume_command(task.run) if request is None else request.command):
            if on_open is not None:
                on_open(task.run)
            finalized = run_task(task, storage_of(settings, task.run.run_id))
    return _result(task, finalized, time.perf_counter() - started_at)


def train_once(job: JobConfig, settings: Settings, request: TrainRequest, *, backend: Backend, on_progress: OnProgress) -> RunRef:
    """Train a job once, however often it is requested: a run that was opened for the request before is continued, or finished.

    Args:
        job: the resolved job, recorded in MLflow.
        settings: where MLflow, storage and Ray are.
        request: of the caller.
        backend: ``local`` trains in this process, ``ray`` on a cluster.
        on_progress: called with the progress.

    Returns:
        The finished run.

    Raises:
        AdjobsError: as :func:`train` and :func:`resume`.
    """
    assert job.track is not None
    run = find_requested_run(settings.tracking_uri, job.track.experiment, request.id)
    if run is None:
        result = train(job, settings, backend=backend, on_progress=on_progress, request=request)
        return RunRef(settings.tracking_uri, result.run_id)
    reader = open_reader(run)
    if reader.info.status == JobStatus.FINISHED:
        return run
    ensure_not_running(f"run {run.run_id}", reader.info.status, reader.info.tags)
    if "storage" in reader.info.tags and {JOB_FILE, SPLIT_FILE} <= set(reader.artifacts()):
        resume(run, settings, on_progress=on_progress, parent_command=request.command)
        return run
    prepared = prepare(job, settings)  # its driver died before it had recorded the job
    with training_backend(prepared.job, settings, backend, on_progress, finalize_run) as run_task:
        task = reopen_run(prepared, settings, run)
        with managed_run(run, request.command):
            run_task(task, storage_of(settings, run.run_id))
    return run


def resume(run: RunRef, settings: Settings, *, on_progress: OnProgress, parent_command: str | None = None) -> TrainResult:
    """Resume a run whose driver died from its last checkpoint, in the way it was launched.

    Args:
        run: the run.
        settings: where MLflow, storage and Ray are.
        on_progress: called with the progress.
        parent_command: resumes the search or the comparison that it belongs to, which calls this; None for a run of its own.

    Raises:
        TrackingError: no such run; it is finished; its driver is alive.
        DataError: the data are not those that it was started with.
    """
    started_at = time.perf_counter()
    run_id = run.run_id
    reader = open_reader(run)
    status, tags = reader.info.status, reader.info.tags
    kind = tags.get("kind")
    if parent_command is None:
        if kind in COMMANDS:
            raise TrackingError(f"run {run_id}: is a {kind}; resume it with '{COMMANDS[kind]} --resume {run_id}'")
        if kind in ("trial", "final"):
            raise TrackingError(f"run {run_id}: is a {kind} run of a search; resume the search with 'adjobs tune --resume NAME'")
        if kind == "candidate":
            raise TrackingError(f"run {run_id}: belongs to a comparison; resume that with 'adjobs compare --resume NAME'")
        if status == JobStatus.FINISHED:
            raise TrackingError(f"run {run_id}: is FINISHED, there is nothing to resume; start a new one with 'adjobs train'")
        ensure_not_running(f"run {run_id}", status, tags)  # before the artifacts are read, which it may not have written yet
    stored = reader.stored_run()
    data = prepare_data(stored.job, settings, split=stored.split)
    origin, remedy = f"run {run_id} was started with", "restore the data, or start a new run"
    ensure_same_data(stored.job.data.uri, data.fingerprint, stored.fingerprint, origin, remedy)
    backend: Backend = "local" if stored.tags.get("launcher") == "local" else "ray"
    with training_backend(stored.job, settings, backend, on_progress, finalize_run) as run_task:
        open_writer(run).reopen(driver_tags())
        task = task_of(PreparedJob(stored.job, data._replace(split=stored.split)), settings, run)
        with managed_run(run, parent_command or resume_command(run)):
            finalized = run_task(task, stored.storage)
    return _result(task, finalized, time.perf_counter() - started_at)


def resume_command(run: RunRef) -> str:
    """The command that resumes a run."""
    return f"adjobs train --resume {run.run_id}"


@contextmanager
def training_backend(
    job: JobConfig,
    settings: Settings,
    backend: Backend,
    on_progress: OnProgress,
    finalize: Callable[[FinishedTraining], Outcome],
) -> Iterator[Callable[[Task, str], Outcome]]:
    """A function that trains a task with its checkpoints in a storage; the cluster's capacity is checked before a run is opened.

    Args:
        job: the resolved job.
        settings: where Ray is.
        backend: ``local`` trains in this process, ``ray`` on a cluster.
        on_progress: called with the progress.
        finalize: what rank 0 does with the trained method; it is pickled.
    """
    if backend == "local":
        if job.train.min_workers != 1:
            workers = job.train.workers if isinstance(job.train.workers, int) else list(job.train.workers)
            raise JobError(f"train.workers: got {workers}, training in this process has 1; set 1, or train on Ray")
        yield lambda task, storage: local.run(task, storage, on_progress, finalize)
        return
    with ray_backend.connected(settings):
        resources = ray_backend.resolve_resources(job.train)
        yield lambda task, storage: ray_backend.run(task, storage, resources, on_progress, finalize)


def _result(task: Task, finalized: FinalizedRun, seconds: float) -> TrainResult:
    job = task.job
    return TrainResult(
        run_id=task.run.run_id,
        method=job.method,
        data=job.data.uri,
        data_fingerprint=task.fingerprint,
        evaluation=finalized.evaluation,
        model=finalized.model,
        images_per_s=finalized.images_per_s,
        selected_checkpoint=finalized.selected_checkpoint,
        finalize_seconds=finalized.finalize_seconds,
        seconds=seconds,
        tracking_uri=task.run.tracking_uri,
        run_url=open_reader(task.run).url(),
        experiment=None if job.track is None else job.track.experiment,
    )
