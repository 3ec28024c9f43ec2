"""From a job to a finished run: look at the data, open the run, train here or on Ray, close the run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NamedTuple

import psutil

from adjobs import __version__, methods
from adjobs.data.index import INSTALLED, Index, fingerprint, open_index
from adjobs.data.preflight import Limits, Problem, check, without
from adjobs.data.splits import Split, check_split, make_split, read_split
from adjobs.errors import EXIT_STOPPED, DataError, JobError, Stopped, TrackingError
from adjobs.job import JobConfig
from adjobs.metrics.pixel_threshold import check_pixels_possible
from adjobs.metrics.threshold import check_possible
from adjobs.settings import Settings
from adjobs.tracking import run as tracking
from adjobs.training import cluster
from adjobs.training.checkpoint import StoreCheckpoints
from adjobs.training.loop import Tick
from adjobs.training.worker import Task
from adjobs.training.worker import run as run_worker

# A cluster that died under its driver can hold up the driver's own end for minutes.
SECONDS_TO_STOP = 10.0


class Data(NamedTuple):
    """Data that passed all checks."""

    samples: Index
    fingerprint: str
    problems: list[Problem]
    split: Split


def train(job: JobConfig, settings: Settings, *, local: bool, tell: Callable[[Tick], None]) -> dict[str, Any]:
    """Train a job from its beginning; returns the summary.

    Args:
        job: the resolved job.
        settings: where MLflow, storage and Ray are.
        local: in this process, without Ray.
        tell: called with the progress.

    Raises:
        AdjobsError: anything that stands in the way; most of it is found before a run is opened.
    """
    begin = time.perf_counter()
    job = _anywhere(job)
    data = look(job, settings)
    job = _as_divided(job, data.split)
    with _launcher(job, settings, local=local) as launcher:
        tags = {
            "launcher": "local" if local else "ray",
            "driver": _this_process(),
            "ray_job": cluster.ray_job() or "none",
        }
        facts = tracking.DataFacts(data.fingerprint, data.samples.format, _counts(data), data.split, data.problems)
        run_id = tracking.start(settings.tracking_uri, job, facts, f"{settings.artifacts}/checkpoints/{{run}}", tags)
        task = _task(job, data.split, data.fingerprint, settings, run_id, data.problems)
        summary = _closing(task, lambda: launcher(task, f"{settings.artifacts}/checkpoints/{run_id}", tell))
    return _describe(task, settings, summary, time.perf_counter() - begin)


def resume(run_id: str, settings: Settings, *, tell: Callable[[Tick], None]) -> dict[str, Any]:
    """Go on with a run whose driver died, from its last checkpoint, in the way it was launched.

    Raises:
        TrackingError: no such run; it is finished; its driver is alive.
        DataError: the data are not those that it was started with.
    """
    begin = time.perf_counter()
    stored = tracking.stored(settings.tracking_uri, run_id)
    if stored.status == "FINISHED":
        raise TrackingError(f"run {run_id}: is FINISHED, there is nothing to resume; start a new one with 'adjobs train'")
    if stored.status == "RUNNING" and _alive(stored.tags.get("driver", "")):
        raise TrackingError(f"run {run_id}: its driver {stored.tags['driver']} is still at work; stop it first")
    data = look(stored.job, settings, split=stored.split)
    if data.fingerprint != stored.fingerprint:
        raise DataError(
            f"data '{stored.job.data.uri}': fingerprint {data.fingerprint[:16]}, run {run_id} was started with "
            f"{stored.fingerprint[:16]}; bring back the data as they were, or start a new run"
        )
    local = stored.tags.get("launcher") == "local"
    with _launcher(stored.job, settings, local=local) as launcher:
        tracking.reopen(settings.tracking_uri, run_id, {"driver": _this_process(), "ray_job": cluster.ray_job() or "none"})
        task = _task(stored.job, stored.split, stored.fingerprint, settings, run_id, data.problems)
        summary = _closing(task, lambda: launcher(task, stored.storage, tell))
    return _describe(task, settings, summary, time.perf_counter() - begin)


def look(job: JobConfig, settings: Settings, split: Split | None = None) -> Data:
    """Open, check and split the data, before anything is started.

    Args:
        job: the resolved job.
        settings: where the cache is.
        split: of an earlier run that is to go on; None makes or reads the job's own.

    Raises:
        DataError: there are problems and ``data.exclude_bad`` is off, or a part lacks what the job needs.
        JobError: the split or the threshold cannot be had from these data.
    """
    if split is None and job.data.split is not None:
        split = _given_split(job.data.split, job.data.k)
    index = open_index(job.data.uri, job.data.format, cache=settings.cache)
    _divide(index, job, split, index)  # what cannot be divided with all its images is said before they are read
    limits = Limits(train_anomalies="none" not in methods.spec(job.method).supervision)
    whole = _known(index)
    problems = _check_once(index, whole, job, split, limits, settings.cache)
    _refuse(job, problems)
    rest = without(index, problems)
    found = _divide(rest, job, split, index)
    _check_thresholds(job, rest, found)
    all_there = len(rest.samples) == len(index.samples)
    return Data(rest, whole if whole and all_there else fingerprint(rest), problems, found)


def _given_split(path: str, k: int | None) -> Split:
    if k is not None:
        raise JobError(
            f"data.k: got {k} beside data.split {path}, which says itself which anomalies train; leave out one of both"
        )
    return read_split(Path(path).expanduser())


def _known(index: Index) -> str | None:
    """The fingerprint; None where a file cannot be read, which the check tells with all other problems."""
    try:
        return fingerprint(index, progress=True)
    except DataError:
        return None


def _divide(rest: Index, job: JobConfig, split: Split | None, index: Index) -> Split:
    """The job's split of what is left after exclusions."""
    if split is None:
        return make_split(rest, job.data.protocol, k=job.data.k, seed=job.data.seed)
    kept = {sample.id for sample in rest.samples}
    return check_split(rest, split, excluded=[sample.id for sample in index.samples if sample.id not in kept])


def _refuse(job: JobConfig, problems: list[Problem]) -> None:
    errors = [problem for problem in problems if problem.severity == "error"]
    of_all = [problem for problem in errors if not problem.sample]
    if not errors or (job.data.exclude_bad and not of_all):
        return
    first = (of_all if job.data.exclude_bad else errors)[0]
    got = f"{len(errors)} problems, first: {first.sample or 'the data set'}: {first.message}"
    todo = f"see all with 'adjobs data check {job.data.uri}', mend them"
    raise DataError(f"data '{job.data.uri}': {got}; {todo}" + (", or set data.exclude_bad=true" if not of_all else ""))


def _check_thresholds(job: JobConfig, index: Index, split: Split) -> None:
    """Refuse thresholds that the validation part cannot give, before hours of training."""
    names = set(split.val)
    val = [sample for sample in index.samples if sample.id in names]
    anomalies = [sample for sample in val if sample.label == "anomalous"]
    n_normal, asked, pixels = len(val) - len(anomalies), job.threshold, job.pixel_threshold
    check_possible(
        str(asked.policy), n_normal, len(anomalies), value=asked.value, confidence=asked.confidence, strict=asked.strict
    )
    if pixels.policy is not None:
        has_masks = bool(anomalies) and all(sample.mask is not None for sample in anomalies)
        check_pixels_possible(pixels.policy, n_normal, has_masks, value=pixels.value)


def _check_once(
    index: Index, whole: str | None, job: JobConfig, split: Split | None, limits: Limits, cache: Path
) -> list[Problem]:
    """All problems of a data set; reading every image takes a while, so the answer is kept for the same question."""
    if whole is None:
        return check(index, lambda rest: _divide(rest, job, split, index), limits=limits, progress=True)
    question = [
        __version__,
        whole,
        split.to_dict() if split else [job.data.protocol, job.data.k, job.data.seed],
        asdict(limits),
    ]
    kept = cache / "checked" / f"{hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):  # not there, or damaged by a power failure
        return [Problem(**item) for item in json.loads(kept.read_text())]
    problems = check(index, lambda rest: _divide(rest, job, split, index), limits=limits, progress=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    beside = kept.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps([asdict(problem) for problem in problems]))
    beside.replace(kept)
    return problems


Launcher = Callable[[Task, str, Callable[[Tick], None]], dict[str, Any]]


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
    with cluster.connected(settings):
        wanted = cluster.share(job.train)
        yield lambda task, storage, tell: cluster.run(task, storage, wanted, tell)


def _train_here(task: Task, storage: str, tell: Callable[[Tick], None]) -> dict[str, Any]:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() and task.job.train.gpus_per_worker != 0 else "cpu")
    with TemporaryDirectory(prefix="adjobs-") as scratch:
        checkpoints = StoreCheckpoints(storage, Path(scratch))
        return run_worker(task, device=device, rank=0, world=1, checkpoints=checkpoints, tell=tell)


def _closing(task: Task, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do the work and close the run, whatever happens."""
    stopped = Stopped(f"stopped; go on with: adjobs train --resume {task.run_id}")
    last = threading.Timer(SECONDS_TO_STOP, os._exit, (EXIT_STOPPED,))
    last.daemon = True

    def terminate(number: int, frame: FrameType | None) -> None:
        last.start()
        # Whoever sent this may kill in a moment (Ray: after three seconds), so the run is closed before anything is torn down.
        with contextlib.suppress(TrackingError):
            tracking.close(task.tracking_uri, task.run_id, "KILLED", stopped)
        raise KeyboardInterrupt  # the one exception that Ray lets through when a signal comes while it waits

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        summary = work()
    except KeyboardInterrupt as error:
        tracking.close(task.tracking_uri, task.run_id, "KILLED", stopped)
        raise stopped from error
    except BaseException as error:
        tracking.close(task.tracking_uri, task.run_id, "FAILED", error)
        raise
    finally:
        last.cancel()
        signal.signal(signal.SIGTERM, before)
    tracking.close(task.tracking_uri, task.run_id, "FINISHED")
    return summary


def _task(job: JobConfig, split: Split, found: str, settings: Settings, run_id: str, problems: list[Problem]) -> Task:
    names = tuple(sorted({problem.sample for problem in problems if problem.severity == "error"}))
    return Task(job, split, found, settings.cache, settings.tracking_uri, run_id, names)


def _as_divided(job: JobConfig, split: Split) -> JobConfig:
    """The job with the protocol and seed of its split, which a file of its own may have brought."""
    return job.model_copy(update={"data": job.data.model_copy(update={"protocol": split.protocol, "seed": split.seed})})


def _anywhere(job: JobConfig) -> JobConfig:
    """The job with the full path of its data: workers and a later resume run in other folders."""
    if "://" in job.data.uri or job.data.uri == INSTALLED:
        return job
    return job.model_copy(update={"data": job.data.model_copy(update={"uri": str(Path(job.data.uri).expanduser().absolute())})})


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


def _counts(data: Data) -> dict[str, int]:
    """Images per part and label, such as ``train/normal``."""
    labels = {sample.id: sample.label for sample in data.samples.samples}
    parts = {"train": data.split.train, "val": data.split.val, "test": data.split.test}
    return dict(Counter(f"{part}/{labels[name]}" for part, names in parts.items() for name in names))


def _this_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


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
