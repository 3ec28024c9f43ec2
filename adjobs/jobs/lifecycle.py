"""The life of a job's run: opened, reopened, and closed whatever happens."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from adjobs.config.settings import Settings
from adjobs.drivers import current_driver, living_driver
from adjobs.errors import ClusterError, Stopped, StorageError, SupersededError, TrackingError
from adjobs.jobs.announce import describe_labels
from adjobs.jobs.data import PreparedData
from adjobs.jobs.places import describe_choice
from adjobs.jobs.prepare import PreparedJob
from adjobs.logs import run_context
from adjobs.storage.fence import Fence
from adjobs.tracking.folder import folder_uri, is_folder, run_folder
from adjobs.tracking.layout import DatasetInfo, ParentRun, RunRef
from adjobs.tracking.runs import close_after_error, create_run, open_reader, open_writer
from adjobs.training.worker import Task
from adjobs.types import JobStatus
from adjobs.waits import waiting_for

log = logging.getLogger(__name__)

_open_runs: dict[RunRef, str] = {}
"""Runs that this process drives, each with the command that resumes it."""

_fence: ContextVar[Fence | None] = ContextVar("fence", default=None)


def open_run(prepared: PreparedJob, settings: Settings, tags: Mapping[str, str], parent: ParentRun | None = None) -> Task:
    """Open a run of a prepared job; returns what its workers need to know.

    Args:
        prepared: the job and its data.
        settings: where MLflow and the checkpoints are.
        tags: more tags of the run.
        parent: the search that it belongs to.
    """
    uri = settings.tracking_uri if prepared.job.track is not None else folder_uri(settings.home)
    storage = storage_of(settings, "{run}")
    job, data, places = prepared
    described = {"labels": describe_labels(job, data)}
    if places is not None:
        described["places"] = describe_choice(job, places)
    all_tags = {**driver_tags(), **described, **tags}
    with waiting_for(f"recording the job in {'a folder' if job.track is None else 'MLflow'}"):
        run = create_run(uri, prepared.job, dataset_info(prepared.data), storage, all_tags, parent)
    return task_of(prepared, settings, run)


def reopen_run(prepared: PreparedJob, settings: Settings, run: RunRef) -> Task:
    """Open a run again that was opened for this job, perhaps by a process that died before it had recorded the job."""
    writer = open_writer(run)
    writer.reopen({**driver_tags(), "storage": storage_of(settings, run.run_id)})
    writer.record_job(prepared.job, dataset_info(prepared.data))
    return task_of(prepared, settings, run)


def task_of(prepared: PreparedJob, settings: Settings, run: RunRef) -> Task:
    """What the workers of an open run need to know."""
    job, data = prepared.job, prepared.data
    excluded = tuple(sorted({problem.sample for problem in data.problems if problem.severity == "error"}))
    return Task(
        job,
        data.split,
        data.fingerprint,
        settings.cache,
        run,
        settings.tracking_uri,
        excluded,
        data.reading,
        fence=_fence.get(),
    )


@contextmanager
def fenced(fence: Fence) -> Iterator[None]:
    """A block whose tasks write checkpoints and models only as long as no later attempt of the job has begun."""
    token = _fence.set(fence)
    try:
        yield
    finally:
        _fence.reset(token)


def storage_of(settings: Settings, run_id: str) -> str:
    """Where the checkpoints of a run go."""
    return f"{settings.artifacts}/checkpoints/{run_id}"


def dataset_info(data: PreparedData) -> DatasetInfo:
    """What a run records of its data."""
    labels = {sample.id: sample.label for sample in data.dataset.samples}
    splits = {"train": data.split.train, "val": data.split.val, "test": data.split.test}
    counts = Counter(f"{split}/{labels[name]}" for split, names in splits.items() for name in names)
    return DatasetInfo(data.fingerprint, data.dataset.format, dict(counts), data.split, data.problems)


@contextmanager
def managed_run(run: RunRef, resume_command: str) -> Iterator[None]:
    """Work of an open run, which is closed whatever happens.

    Args:
        run: the open run.
        resume_command: what resumes it.

    Raises:
        Stopped: the process was interrupted; says how to resume, as do errors of the systems around a job.
    """
    # The search around a final training is what is resumed, and the queue resumes its jobs itself.
    resumes_itself = bool(_open_runs) or _fence.get() is not None
    _open_runs[run] = resume_command
    try:
        with run_context(run.run_id):
            log.info("started as %s; if it is interrupted, resume it with '%s'", _address(run), resume_command)
            yield
    except (KeyboardInterrupt, Stopped) as error:  # Stopped: a run within this one was closed before
        stopped = Stopped(f"stopped; resume with: {resume_command}")
        close_after_error(run, stopped)
        raise stopped from error
    except SupersededError:  # the run is the later attempt's now
        raise
    except BaseException as error:
        close_after_error(run, error)
        if isinstance(error, ClusterError | StorageError | TrackingError) and not resumes_itself:
            raise type(error)(f"{error}; then resume with: {resume_command}") from error
        raise
    else:
        open_writer(run).close(JobStatus.FINISHED)
    finally:
        del _open_runs[run]


def _address(run: RunRef) -> str:
    """The id of a run, and where it can be seen; without its page where MLflow does not answer now."""
    if is_folder(run.tracking_uri):
        return f"{run.run_id} in {run_folder(run)}"
    try:
        url = open_reader(run).url()
    except TrackingError:
        url = None
    return run.run_id if url is None else f"{run.run_id}, {url}"


def close_open_runs() -> None:
    """Mark every run that this process drives as killed; for signal handlers, before anything is torn down."""
    for run, resume_command in list(_open_runs.items()):
        close_after_error(run, Stopped(f"stopped; resume with: {resume_command}"))


def driver_tags() -> dict[str, str]:
    """Tags that say which process drives a run."""
    return {"driver": current_driver(), "ray_job": _ray_submission_id() or "none"}


def _ray_submission_id() -> str | None:
    """Submission id of the Ray job that this process is the driver of, if any."""
    text = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    return json.loads(text).get("metadata", {}).get("job_submission_id") if text else None


def ensure_not_running(subject: str, status: JobStatus, tags: Mapping[str, str]) -> None:
    """Refuse to resume what another process of this machine is working on.

    Raises:
        TrackingError: its driver is alive. Of drivers on other machines nothing is known, and they are not refused.
    """
    if status == JobStatus.RUNNING and is_driver_alive(tags):
        raise TrackingError(f"{subject}: its driver {tags['driver']} is still running; stop it first")


def is_driver_alive(tags: Mapping[str, str]) -> bool:
    """Whether the driver of a run, by the run's tags, is a living process of this machine."""
    return living_driver(tags.get("driver", "")) is not None
