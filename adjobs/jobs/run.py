"""From a job to a finished run: look at the data, open the run, train here or on Ray, close the run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NamedTuple

import psutil

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.data.checks.preflight import Problem
from adjobs.data.open import INSTALLED
from adjobs.data.splits.assignment import SplitAssignment, normal_train_digest
from adjobs.errors import EXIT_STOPPED, DataError, JobError, Stopped, TrackingError
from adjobs.inference.detector import read_manifest
from adjobs.jobs.prepare import Data, prepare_data
from adjobs.tracking import run as tracking
from adjobs.tracking.logged_model import download, pin_model_uri
from adjobs.training.backends import ray as ray_backend
from adjobs.training.checkpoint import StoreCheckpoints
from adjobs.training.loop import ProgressUpdate
from adjobs.training.worker import Task
from adjobs.training.worker import run as run_worker

# A cluster that died under its driver can hold up the driver's own end for minutes.
SECONDS_TO_STOP = 10.0
PLACES = ("weights", "textures")  # parameters of methods that may name a file or folder of this machine, beside Spec.start's
WORDS = ("auto", "drawn", "none", "packaged", "timm")  # what else these parameters may say


class Prepared(NamedTuple):
    """A job as it will be trained, and its data: nothing that can be found before a run is opened stands in the way."""

    job: JobConfig
    data: Data


def prepare(job: JobConfig, settings: Settings, data: Data | None = None) -> Prepared:
    """Look at all that a job names.

    Args:
        job: the resolved job.
        settings: where MLflow and the cache are.
        data: what an earlier look at the same data section found.

    Raises:
        AdjobsError: anything that stands in the way.
    """
    job = with_absolute_paths(job)
    data = prepare_data(job, settings) if data is None else data
    return Prepared(resolve_warm_start(with_split_of(job, data.split), data, settings), data)


def open_run(prepared: Prepared, settings: Settings, tags: Mapping[str, str], under: tracking.ParentRun | None = None) -> Task:
    """Open a run of a prepared job; returns what its workers are told.

    Args:
        prepared: the job and its data.
        settings: where MLflow and the checkpoints are.
        tags: more tags of the run.
        under: the search that it belongs to.
    """
    job, data = prepared
    storage = storage_of(settings, "{run}")
    return task_of(
        prepared, settings, tracking.start(settings.tracking_uri, job, _facts(data), storage, {**driver_tags(), **tags}, under)
    )


def task_of(prepared: Prepared, settings: Settings, run_id: str) -> Task:
    """What the workers of an open run are told."""
    job, data = prepared
    return _task(job, data.split, data.fingerprint, settings, run_id, data.problems)


def reopen_run(prepared: Prepared, settings: Settings, run_id: str) -> Task:
    """Open a run again that was opened for this job, perhaps by a process that did not live to record it."""
    job, data = prepared
    tracking.reopen(settings.tracking_uri, run_id, {**driver_tags(), "storage": storage_of(settings, run_id)})
    tracking.record(settings.tracking_uri, run_id, job, _facts(data))
    return task_of(prepared, settings, run_id)


def storage_of(settings: Settings, run_id: str) -> str:
    """Where the checkpoints of a run go."""
    return f"{settings.artifacts}/checkpoints/{run_id}"


def train(
    job: JobConfig,
    settings: Settings,
    *,
    local: bool,
    on_progress: Callable[[ProgressUpdate], None],
    under: tracking.ParentRun | None = None,
) -> dict[str, Any]:
    """Train a job from its beginning; returns the summary.

    Args:
        job: the resolved job.
        settings: where MLflow, storage and Ray are.
        local: in this process, without Ray.
        tell: called with the progress.
        under: the search that it belongs to.

    Raises:
        AdjobsError: anything that stands in the way; most of it is found before a run is opened.
    """
    begin = time.perf_counter()
    prepared = prepare(job, settings)
    with _launcher(prepared.job, settings, local=local) as launcher:
        task = open_run(prepared, settings, {"launcher": "local" if local else "ray"}, under)
        with managed_run(task.tracking_uri, task.run_id, f"adjobs train --resume {task.run_id}"):
            summary = launcher(task, storage_of(settings, task.run_id), on_progress)
    return _describe(task, settings, summary, time.perf_counter() - begin)


def resume(
    run_id: str, settings: Settings, *, on_progress: Callable[[ProgressUpdate], None], by_search: bool = False
) -> dict[str, Any]:
    """Go on with a run whose driver died, from its last checkpoint, in the way it was launched.

    Args:
        run_id: of MLflow.
        settings: where MLflow, storage and Ray are.
        tell: called with the progress.
        by_search: it is the final training of a search, and the search asks.

    Raises:
        TrackingError: no such run; it is finished; its driver is alive.
        DataError: the data are not those that it was started with.
    """
    begin = time.perf_counter()
    stored = tracking.stored(settings.tracking_uri, run_id)
    if stored.tags.get("kind") in ("trial", "final") and not by_search:
        raise TrackingError(f"run {run_id}: is a {stored.tags['kind']} run of a search; go on with 'adjobs tune --resume NAME'")
    if stored.status == "FINISHED":
        raise TrackingError(f"run {run_id}: is FINISHED, there is nothing to resume; start a new one with 'adjobs train'")
    if not by_search:
        ensure_not_running(f"run {run_id}", stored.status, stored.tags)
    data = prepare_data(stored.job, settings, split=stored.split)
    if data.fingerprint != stored.fingerprint:
        raise DataError(
            f"data '{stored.job.data.uri}': fingerprint {data.fingerprint[:16]}, run {run_id} was started with "
            f"{stored.fingerprint[:16]}; bring back the data as they were, or start a new run"
        )
    local = stored.tags.get("launcher") == "local"
    with _launcher(stored.job, settings, local=local) as launcher:
        tracking.reopen(settings.tracking_uri, run_id, driver_tags())
        task = _task(stored.job, stored.split, stored.fingerprint, settings, run_id, data.problems)
        with managed_run(task.tracking_uri, run_id, f"adjobs train --resume {run_id}"):
            summary = launcher(task, stored.storage, on_progress)
    return _describe(task, settings, summary, time.perf_counter() - begin)


Launcher = Callable[[Task, str, Callable[[ProgressUpdate], None]], dict[str, Any]]


@contextmanager
def _launcher(job: JobConfig, settings: Settings, *, local: bool) -> Iterator[Launcher]:
    """A function that trains a task; the cluster is asked for room before a run is opened."""
    if local:
        if job.train.workers != 1:
            raise JobError(
                f"train.workers: got {job.train.workers}, --local trains with 1 in this process; set 1, or leave out --local"
            )
        yield _train_here
        return
    with ray_backend.connected(settings):
        wanted = ray_backend.resolve_resources(job.train)
        yield lambda task, storage, on_progress: ray_backend.run(task, storage, wanted, on_progress)


def _train_here(task: Task, storage: str, on_progress: Callable[[ProgressUpdate], None]) -> dict[str, Any]:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() and task.job.train.gpus_per_worker != 0 else "cpu")
    return run_worker(task, device=device, rank=0, world_size=1, checkpoints=StoreCheckpoints(storage), on_progress=on_progress)


@contextmanager
def managed_run(tracking_uri: str, run_id: str, again: str) -> Iterator[None]:
    """Work of an open run, which is closed whatever happens.

    Args:
        tracking_uri: MLflow.
        run_id: the run.
        again: the command that goes on with it, for whoever stopped it.
    """
    stopped = Stopped(f"stopped; go on with: {again}")
    last = threading.Timer(SECONDS_TO_STOP, os._exit, (EXIT_STOPPED,))
    last.daemon = True

    def terminate(number: int, frame: FrameType | None) -> None:
        last.start()
        # Whoever sent this may kill in a moment (Ray: after three seconds), so the run is closed before anything is torn down.
        with contextlib.suppress(TrackingError):
            tracking.close(tracking_uri, run_id, "KILLED", stopped)
        raise KeyboardInterrupt  # the one exception that Ray lets through when a signal comes while it waits

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except (KeyboardInterrupt, Stopped) as error:  # stopped: what is done for this run was closed before it
        tracking.close(tracking_uri, run_id, "KILLED", stopped)
        raise stopped from error
    except BaseException as error:
        tracking.close(tracking_uri, run_id, "FAILED", error)
        raise
    finally:
        last.cancel()
        signal.signal(signal.SIGTERM, before)
    tracking.close(tracking_uri, run_id, "FINISHED")


def _task(job: JobConfig, split: SplitAssignment, found: str, settings: Settings, run_id: str, problems: list[Problem]) -> Task:
    names = tuple(sorted({problem.sample for problem in problems if problem.severity == "error"}))
    return Task(job, split, found, settings.cache, settings.tracking_uri, run_id, names)


def with_split_of(job: JobConfig, split: SplitAssignment) -> JobConfig:
    """The job with the protocol and seed of its split, which a file of its own may have brought."""
    return job.model_copy(update={"data": job.data.model_copy(update={"protocol": split.protocol, "seed": split.seed})})


def with_absolute_paths(job: JobConfig) -> JobConfig:
    """The job with full paths: workers and a later resume run in other folders."""
    start = methods.spec(job.method).warm_start
    names = PLACES if start is None else (*PLACES, start.param)
    places = {name: job.params[name] for name in names if isinstance(job.params.get(name), str)}
    job = job.model_copy(update={"params": job.params | {name: _absolute(place) for name, place in places.items()}})
    data = job.data
    if data.split is not None:
        data = data.model_copy(update={"split": _absolute(data.split)})
    if "://" not in data.uri and data.uri != INSTALLED:
        data = data.model_copy(update={"uri": str(Path(data.uri).expanduser().absolute())})
    return job.model_copy(update={"data": data})


def _absolute(place: str) -> str:
    """The full path of what is on this machine; words such as auto, addresses and ids stay."""
    path = Path(place).expanduser()
    return place if place in WORDS or "://" in place or not path.exists() else str(path.absolute())


def resolve_warm_start(job: JobConfig, data: Data, settings: Settings) -> JobConfig:
    """The job with the exact model that it begins with.

    Raises:
        JobError: a model of another method, of other data or another training part, or of another shape. What has seen pictures
            of this job's validation or test part must not be begun with.
        TrackingError: no such run or model.
    """
    start = methods.spec(job.method).warm_start
    asked = None if start is None else job.params[start.param]
    if start is None or asked is None:
        return job
    model = pin_model_uri(settings.tracking_uri, asked)
    with TemporaryDirectory(prefix="adjobs-") as folder:
        manifest = read_manifest(download(settings.tracking_uri, model, Path(folder)))
    here, there = {**job.params, "image_size": job.data.image_size}, {**manifest.params, "image_size": manifest.image_size}
    good = normal_train_digest(data.samples, data.split.train)
    wrong = [
        f"{name} {got} there, {wanted} here"
        for name, got, wanted in [
            ("method", manifest.method, job.method),
            ("data fingerprint", manifest.data_fingerprint[:16], data.fingerprint[:16]),
            ("good pictures in the training part", (manifest.normal_train_digest or "unknown")[:16], good[:16]),
            *((name, there.get(name), here[name]) for name in ("image_size", *start.must_match)),
        ]
        if got != wanted
    ]
    wrong += [
        f"{name} {there.get(name)} there, must be {value}" for name, value in start.required_values if there.get(name) != value
    ]
    if wrong:
        raise JobError(f"params.{start.param} '{asked}': {'; '.join(wrong)}; give a run that agrees, or leave it out")
    return job.model_copy(update={"params": {**job.params, start.param: model}})


def _describe(task: Task, settings: Settings, summary: dict[str, Any], seconds: float) -> dict[str, Any]:
    head = {
        "run_id": task.run_id,
        "method": task.job.method,
        "data": task.job.data.uri,
        "data_fingerprint": task.fingerprint,
    }
    place = {
        "tracking_uri": settings.tracking_uri,
        "run_url": tracking.url(settings.tracking_uri, task.run_id),
        "experiment": task.job.track.experiment,
    }
    return {**head, **summary, "seconds": seconds, **place}


def _facts(data: Data) -> tracking.DatasetInfo:
    return tracking.DatasetInfo(data.fingerprint, data.samples.format, _counts(data), data.split, data.problems)


def _counts(data: Data) -> dict[str, int]:
    """Images per part and label, such as ``train/normal``."""
    labels = {sample.id: sample.label for sample in data.samples.samples}
    parts = {"train": data.split.train, "val": data.split.val, "test": data.split.test}
    return dict(Counter(f"{part}/{labels[name]}" for part, names in parts.items() for name in names))


def driver_tags() -> dict[str, str]:
    """Tags that say which process drives a run."""
    this = f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"
    return {"driver": this, "ray_job": ray_backend.ray_job() or "none"}


def ensure_not_running(what: str, status: str, tags: Mapping[str, str]) -> None:
    """Refuse to go on with what another process is at work on.

    Raises:
        TrackingError: its driver is alive.
    """
    if status == "RUNNING" and _alive(tags.get("driver", "")):
        raise TrackingError(f"{what}: its driver {tags['driver']} is still at work; stop it first")


def _alive(driver: str) -> bool:
    """Whether the driver of a run is a living process of this machine; of other machines nothing is known."""
    host, _, rest = driver.partition(":")
    pid, _, created = rest.partition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" == created
    except psutil.NoSuchProcess:
        return False
