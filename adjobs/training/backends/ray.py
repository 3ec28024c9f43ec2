"""Ray Train around the worker: connection, capacity, checkpoints through Ray, progress, errors."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from adjobs.config.job import TrainSection
from adjobs.config.settings import Settings
from adjobs.errors import AdjobsError, ClusterError, DataError, JobError, one_line
from adjobs.jobs.finalize import finalize_run
from adjobs.training.checkpoint import Checkpoints
from adjobs.training.latest_progress import LatestProgress
from adjobs.training.loop import ProgressUpdate, TrainingError
from adjobs.training.worker import Finalizer, Task

POLL_SECONDS = 0.5
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")  # of Ray's states of a job
MOST_LISTED = 10_000  # by Ray in one answer; a list that is cut short is an error
MAX_AUTO_CPUS = 8  # more cores than this hardly speed up one worker, and others want them


class WorkerResources(NamedTuple):
    """What one worker gets."""

    cpus: int
    gpus: float


@contextmanager
def connected(settings: Settings) -> Iterator[None]:
    """Connect to the cluster of the settings, or start a local Ray that ends with the job.

    Raises:
        ClusterError: nothing answers at the address.
    """
    # Read when ray.train is imported: the controller polls its workers at this interval, and every report waits for it.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    import ray

    if ray.is_initialized():  # whoever did this also ends it
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if settings.ray_address:
        _check_listening(settings.ray_address)
        try:
            ray.init(address=settings.ray_address, **quiet)
        except Exception as error:  # Ray raises ConnectionError, AuthenticationError, RuntimeError and others here
            raise ClusterError(
                f"Ray at {settings.ray_address}: refused ({one_line(error)[:200]}); "
                "check RAY_ADDRESS, RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH"
            ) from error
        remove_orphaned_placement_groups()
    else:
        ray.init(include_dashboard=False, object_store_memory=200 * 2**20, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def remove_orphaned_placement_groups() -> None:
    """Free what jobs that are no more still reserve or wait for.

    A search whose trials have several workers reserves room from within its trials' processes. When it is killed, Ray frees what
    it was given; but what still waited for room may go on waiting, be given it one day and keep it, and later jobs wait for that.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group
    from ray.util.state import list_jobs, list_placement_groups
    from ray.util.state.exception import RayStateApiException

    try:
        over = {job.job_id for job in list_jobs(limit=MOST_LISTED) if job.job_id and str(job.status) in ENDED}
        groups = list_placement_groups(filters=[("state", "!=", "REMOVED")], limit=MOST_LISTED, detail=True)
    except (RayStateApiException, ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError):
        return  # no dashboard, or it does not answer whom it does not know, or not in full: then nothing is freed
    for group in groups:
        if group.creator_job_id in over:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group.placement_group_id))))


def _check_listening(address: str) -> None:
    """Ray itself would wait for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and "local" are Ray's to resolve
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ClusterError(
            f"Ray at {address}: nothing listens there ({error}); start it ('adjobs up'), or unset RAY_ADDRESS"
        ) from error


def resolve_resources(train: TrainSection) -> WorkerResources:
    """Decide what each worker gets and check that the cluster can ever give it.

    Raises:
        ClusterError: it cannot. Ray would wait for ever.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = train.gpus_per_worker
    if gpus == "auto":
        gpus = 1.0 if sum(int(node.get("GPU", 0)) for node in nodes) >= train.workers else 0.0
    cpus = train.cpus_per_worker
    if cpus == "auto":
        largest, total = max(int(node.get("CPU", 0)) for node in nodes), sum(int(node.get("CPU", 0)) for node in nodes)
        cpus = max(1, min(MAX_AUTO_CPUS, largest, total // train.workers))
    wanted = WorkerResources(int(cpus), float(gpus))
    worker_capacity = sum(_fit(node, wanted) for node in nodes)
    if worker_capacity < train.workers:
        have = ", ".join(f"{node.get('CPU', 0):g} CPU {node.get('GPU', 0):g} GPU" for node in nodes)
        raise ClusterError(
            f"train.workers: got {train.workers} workers with {wanted.cpus} CPU and {wanted.gpus:g} GPU each, "
            f"the cluster has room for {worker_capacity} (nodes: {have}); ask for fewer workers or less for each, or add nodes"
        )
    return wanted


def worker_capacity(wanted: WorkerResources) -> int:
    """How many workers the cluster can hold."""
    import ray

    return sum(_fit(node["Resources"], wanted) for node in ray.nodes() if node["Alive"])


def _fit(node: Mapping[str, float], wanted: WorkerResources) -> int:
    """How many workers one node can hold."""
    by_gpu = int(node.get("GPU", 0) / wanted.gpus) if wanted.gpus else 10**9
    return min(int(node.get("CPU", 0) // wanted.cpus), by_gpu)


def run(
    task: Task,
    storage: str,
    wanted: WorkerResources,
    on_progress: Callable[[ProgressUpdate], None],
    finish: Finalizer = finalize_run,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Run a task on Ray workers; returns rank 0's summary.

    Rerun with the same task and storage, it goes on from the last checkpoint.

    Args:
        task: what the workers are told.
        storage: folder or ``s3://`` URI of this run's checkpoints; its last part is the run's name for Ray.
        wanted: from ``resolve_resources``.
        tell: called here, on the driver, with the progress.
        finish: see :func:`adjobs.training.worker.run`.
        callbacks: of Ray Train.

    Raises:
        AdjobsError: whatever a worker found wrong.
        ClusterError: workers died more often than ``train.max_retries``.
    """
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    parent, _, name = storage.rpartition("/")
    path, through = filesystem(parent)
    retries = task.job.train.max_retries
    with _ticks(on_progress) as ticks:
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"task": task, "ticks": ticks, "finish": finish},
            scaling_config=ScalingConfig(
                num_workers=task.job.train.workers,
                use_gpu=wanted.gpus > 0,
                resources_per_worker={"CPU": wanted.cpus, **({"GPU": wanted.gpus} if wanted.gpus else {})},
            ),
            run_config=RunConfig(
                name=name,
                storage_path=path,
                storage_filesystem=through,
                failure_config=FailureConfig(max_failures=retries, controller_failure_limit=3),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
                callbacks=list(callbacks),
            ),
        )
        try:
            result = trainer.fit()
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            raise _cause(error) from error
    outcome: dict[str, Any] = result.return_value
    if "error" in outcome:
        raise outcome["error"]
    return outcome


def _cause(error: BaseException) -> AdjobsError:
    """The first worker's own error, as one of ours."""
    failures = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        if isinstance(failure, AdjobsError):
            return failure
    if failures:
        rank, failure = next(iter(sorted(failures.items())))
        return ClusterError(
            f"training failed on worker {rank}: {type(failure).__name__}: {one_line(failure)}; --debug shows the traceback"
        )
    return ClusterError(f"training failed: {type(error).__name__}: {one_line(error)}; --debug shows the traceback")


def filesystem(parent: str) -> tuple[str, Any]:
    """Ray stores through pyarrow: its path and file system for a folder or ``s3://`` URI."""
    if not parent.startswith("s3://"):
        Path(parent).mkdir(parents=True, exist_ok=True)
        return parent, None
    from pyarrow.fs import S3FileSystem

    # Keys come from each process's environment, never from the job.
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    return parent.removeprefix("s3://"), S3FileSystem(
        endpoint_override=endpoint, region=os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    )


class _RayCheckpoints(Checkpoints):
    """Checkpoints that Ray carries to the storage of the run."""

    @contextmanager
    def load(self) -> Iterator[Path | None]:
        import ray.train

        found = ray.train.get_checkpoint()
        with nullcontext() if found is None else found.as_directory() as folder:
            yield folder and Path(folder)

    def save(self, folder: Path | None, metrics: Mapping[str, float]) -> None:
        import ray.train

        # Every worker reports, and Ray returns when the checkpoint is stored.
        ray.train.report(dict(metrics), checkpoint=None if folder is None else ray.train.Checkpoint.from_directory(folder))


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's entry on every worker."""
    import ray.train
    from ray.train.torch import get_device

    from adjobs.training import worker

    context = ray.train.get_context()
    rank = context.get_world_rank()
    try:
        return worker.run(
            config["task"],
            device=get_device(),
            rank=rank,
            world_size=context.get_world_size(),
            checkpoints=_RayCheckpoints(),
            on_progress=lambda tick: config["ticks"].put.remote(tuple(tick)),
            finish=config["finish"],
        )
    except (JobError, DataError, TrainingError) as error:
        # Every worker finds the same wrong, and trying again would end the same way: returned, so that Ray does not.
        # What only one finds (storage, MLflow, another node's data) is raised, or its partners would wait for it.
        return {"error": error}


@contextmanager
def _ticks(on_progress: Callable[[ProgressUpdate], None]) -> Iterator[Any]:
    """An actor for the worker to write to, and a thread here that shows what it holds."""
    import ray

    actor = ray.remote(num_cpus=0)(LatestProgress).remote()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
            try:
                fields = ray.get(actor.get.remote(), timeout=5)
            except ray.exceptions.RayError:
                continue  # a lost look at the progress is no reason to stop
            if fields is not None:
                on_progress(ProgressUpdate(*fields))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield actor
    finally:
        done.set()
        thread.join()
        ray.kill(actor)


def ray_job() -> str | None:
    """Submission id of the Ray job that this process is the driver of, if any."""
    import json

    text = os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR")
    return json.loads(text).get("metadata", {}).get("job_submission_id") if text else None
