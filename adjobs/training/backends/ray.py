"""Ray around a training: connection, capacity, Ray Train, progress, errors."""

from __future__ import annotations

import contextvars
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from adjobs.config.environment import ONE_MACHINE_VARIABLES, apply
from adjobs.config.job import TrainSection
from adjobs.config.settings import Settings
from adjobs.errors import AdjobsError, ClusterError, one_line
from adjobs.storage.arrow import arrow_filesystem
from adjobs.training.backends.elastic import fit_elastic
from adjobs.training.backends.imports import check_package, root_cause
from adjobs.training.backends.ray_worker import train_loop_per_worker
from adjobs.training.progress import LatestProgress, ProgressUpdate
from adjobs.training.resources import GROWTH_VARIABLE, Growth, WorkerResources, fit_resources, workers_on
from adjobs.training.worker import FinishedTraining, Outcome, Task
from adjobs.waits import announcer, waiting_for

POLL_SECONDS = 0.5
# Of Ray Train. Each attempt to start workers takes a minute: those that were lost may wait half an hour for a machine.
ATTEMPTS = {"controller_failure_limit": 30}
# Where the number of workers may change, it is chosen again after a loss; Ray Train would start as many as before.
ONE_ATTEMPT = {"max_failures": 0, "controller_failure_limit": 1, "max_preemption_failures": 0}
END_STATES = ("SUCCEEDED", "FAILED", "STOPPED")  # of Ray's states of a job
CLEANER = "PlacementGroupCleaner"
MAX_LISTED = 10_000  # by Ray in one answer; a list that is cut short is an error
LOCAL_STORE_BYTES = 200 * 2**20  # of a local Ray's object store: what is exchanged is small


@contextmanager
def connected(settings: Settings) -> Iterator[None]:
    """Connect to the cluster of the settings, or start a local Ray that ends with the job.

    Raises:
        ClusterError: nothing answers at the address, no local Ray starts, or its workers would import another package adjobs.
    """
    import ray

    if ray.is_initialized():  # by the caller, who also ends it
        yield
        return
    if not (settings.ray_address or "").startswith("ray://"):  # whose server has a current folder of its own
        check_package(Path.cwd())
    if settings.ray_address:
        _check_listening(settings.ray_address)
        _start(
            {"address": settings.ray_address},
            f"Ray at {settings.ray_address}: refused",
            "check RAY_ADDRESS, RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH",
        )
        remove_orphans()
    else:
        _start(
            {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES},
            "Ray: did not start on this machine",
            "try again when less is running here and /tmp has space, or train in this process (adjobs train --local)",
        )
    try:
        yield
    finally:
        ray.shutdown()


def _start(options: Mapping[str, Any], fault: str, remedy: str) -> None:
    """``ray.init``, which raises ConnectionError, AuthenticationError, RuntimeError, a bare Exception and others."""
    import ray

    address = options.get("address")
    try:
        with _own_sigterm_handler(), waiting_for("starting Ray" if address is None else f"connecting to Ray at {address}"):
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:
        ray.shutdown()  # of what has started
        raise ClusterError(f"{fault} ({one_line(error)[:200]}); {remedy}") from error


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Set the process's own handler of SIGTERM again after ``ray.init``, which replaces it by one that exits."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def remove_orphans() -> None:
    """Free what jobs that have ended still reserve or wait for, and end the processes that they left on this node.

    A search whose trials have several workers reserves resources from within its trials' processes. When it is killed, Ray frees
    what it was given; but a group that was still pending may be placed later and never be freed, and later jobs wait for it.
    When a training is killed, an actor of Ray Train removes its group, but then does not end (Ray 2.60), with 200 MB.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group
    from ray.util.state import list_actors, list_jobs, list_placement_groups
    from ray.util.state.exception import RayStateApiException

    try:
        ended = {job.job_id for job in list_jobs(limit=MAX_LISTED) if job.job_id and str(job.status) in END_STATES}
        groups = list_placement_groups(filters=[("state", "!=", "REMOVED")], limit=MAX_LISTED, detail=True)
        cleaners = list_actors(filters=[("class_name", "=", CLEANER), ("state", "=", "ALIVE")], limit=MAX_LISTED)
    except (RayStateApiException, ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError):
        return  # no dashboard, no access to it, or an incomplete answer: then nothing is freed
    for group in groups:
        if group.creator_job_id in ended:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group.placement_group_id))))
    node = ray.get_runtime_context().get_node_id()
    for cleaner in cleaners:  # they have no name, by which Ray could end them
        if cleaner.job_id in ended and cleaner.node_id == node:
            with suppress(psutil.Error):
                process = psutil.Process(cleaner.pid)
                if any(CLEANER in word for word in process.cmdline()):
                    process.kill()


def _check_listening(address: str) -> None:
    """Ray itself would wait for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and "local" are Ray's to resolve
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError, UnicodeError) as error:  # also a port or a host name that cannot be
        fault = f"nothing listens there ({error})"
        raise ClusterError(f"Ray at {address}: {fault}; start it ('adjobs up'), or unset RAY_ADDRESS") from error


def resolve_resources(train: TrainSection) -> WorkerResources:
    """Decide what each worker gets and check that the cluster can ever provide it.

    Raises:
        ClusterError: it cannot. Ray would wait forever.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    growth = Growth.parse(os.environ.get(GROWTH_VARIABLE, ""))
    if growth is None and len(nodes) == 1:
        apply(os.environ, ONE_MACHINE_VARIABLES)
    return fit_resources(train, nodes if growth is None else growth.grown(nodes))


def worker_capacity(resources: WorkerResources) -> int:
    """How many workers of this size the cluster holds."""
    import ray

    return sum(workers_on(node["Resources"], resources) for node in ray.nodes() if node["Alive"])


def run(
    task: Task,
    storage: str,
    resources: WorkerResources,
    on_progress: Callable[[ProgressUpdate], None],
    finalize: Callable[[FinishedTraining], Outcome],
    callbacks: Sequence[Any] = (),
    workers: int | None = None,
) -> Outcome:
    """Train a task on Ray workers; returns what ``finalize`` makes of it on rank 0.

    Run again with the same task and storage, it continues from the last checkpoint.

    Args:
        task: what to train.
        storage: folder or ``s3://`` URI of this run's checkpoints; its last segment is the run's name for Ray.
        resources: from ``resolve_resources``.
        on_progress: called with the progress, here on the driver.
        finalize: what rank 0 does with the trained method; a function of a module, for it is pickled.
        callbacks: of Ray Train.
        workers: number of workers; None: as the job says, which may be as many as there is room for.

    Raises:
        AdjobsError: whatever a worker found wrong.
        ClusterError: workers were lost more often than ``train.max_retries``.
    """
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig

    from adjobs.training.backends.process_group import ProcessGroupConfig
    from adjobs.training.backends.trainer import Trainer

    train, counts = task.job.train, task.job.train.worker_counts if workers is None else (workers,)
    elastic = len(counts) > 1
    bundle = {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}
    parent, _, name = storage.rpartition("/")
    path, filesystem = arrow_filesystem(parent)
    run_config = RunConfig(
        name=name,
        storage_path=path,
        storage_filesystem=filesystem,
        failure_config=FailureConfig(**(ONE_ATTEMPT if elastic else {**ATTEMPTS, "max_failures": train.max_retries})),
        checkpoint_config=CheckpointConfig(num_to_keep=1),
        callbacks=list(callbacks),
    )
    with _progress_actor(on_progress) as actor:
        # By reference: Ray Train's controller would read it too, and import PyTorch and all methods for it.
        shared = ray.put({"task": task, "progress": actor, "finalize": finalize})

        def fit(number: int) -> Any:
            announcer()(f"starting {number} {'worker' if number == 1 else 'workers'} on Ray")
            trainer = Trainer(
                train_loop_per_worker,
                train_loop_config={"shared": shared, "may_grow": number < counts[-1]},
                torch_config=ProcessGroupConfig(),
                scaling_config=ScalingConfig(num_workers=number, use_gpu=resources.gpus > 0, resources_per_worker=bundle),
                run_config=run_config,
            )
            return trainer.fit().return_value

        try:
            outcome = fit_elastic(counts, train.max_retries, bundle, fit, actor) if elastic else fit(counts[0])
        except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
            check_head(error)
            raise _cause(error) from error
    if isinstance(outcome, AdjobsError):
        raise outcome
    result: Outcome = outcome
    return result


def check_head(error: BaseException) -> None:
    """When the head is lost, Ray says of actors and tasks that they are unavailable, whatever they did.

    Raises:
        ClusterError: it is.
    """
    import ray

    address = ray.get_runtime_context().gcs_address
    try:
        _check_listening(address)
    except ClusterError:
        raise ClusterError(f"Ray at {address}: its head was lost; start it again ('adjobs up')") from error


def _cause(error: BaseException) -> AdjobsError:
    """The first worker's own error, as one of ours."""
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        if isinstance(failure, AdjobsError):
            return failure
    rank, failure = min(failures.items(), default=(None, error))
    place = "" if rank is None else f" on worker {rank}"
    return ClusterError(f"training failed{place}: {type(failure).__name__}: {root_cause(failure)}; --debug shows the traceback")


@contextmanager
def _progress_actor(on_progress: Callable[[ProgressUpdate], None]) -> Iterator[Any]:
    """An actor that the workers write to, and a thread of the driver that reads it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # On this node, which is lost only with the driver. Its process starts while Ray Train starts the workers.
    same_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(num_cpus=0, scheduling_strategy=same_node)(LatestProgress).remote()
    done, announce = threading.Event(), announcer()

    def poll() -> None:
        while not done.wait(POLL_SECONDS):
            try:
                update, waits = ray.get([actor.get.remote(), actor.take_waits.remote()], timeout=5)
            except ray.exceptions.RayError:
                continue  # a missed update is no reason to stop
            if update is not None:
                on_progress(update)
            for text in waits:
                announce(text)

    # In a copy of this context: what is shown names the run.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(poll,), daemon=True)
    thread.start()
    try:
        yield actor
    finally:
        done.set()
        thread.join()
        ray.kill(actor)
