"""What Ray Train runs in every worker process: the worker, with checkpoints that Ray carries, and errors that Ray understands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from adjobs.errors import DataError, JobError, SupersededError
from adjobs.training.agreement import AgreedError, any_worker
from adjobs.training.checkpoint import Checkpoints
from adjobs.training.progress import GroupState
from adjobs.training.stage_trainer import TrainingError
from adjobs.training.worker import FinishedTraining, WorkerSetup, run_worker
from adjobs.waits import announcing

LASTING_ERRORS = (JobError, DataError, TrainingError, SupersededError)  # that a retry would find again


class Regrouping(Exception):  # noqa: N818 (nothing is wrong)
    """The workers have stored a checkpoint and stop, so that more of them can continue from it."""


class _RayCheckpoints(Checkpoints):
    """Checkpoints that Ray carries to the storage of the run.

    Args:
        should_grow: whether there is room for more workers; every worker calls it after each checkpoint.
    """

    def __init__(self, should_grow: Callable[[], bool]) -> None:
        self._should_grow = should_grow

    @contextmanager
    def load(self) -> Iterator[Path | None]:
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        with nullcontext() if checkpoint is None else checkpoint.as_directory() as folder:
            yield folder and Path(folder)

    def save(self, folder: Path | None, metrics: Mapping[str, float]) -> None:
        import ray.train

        # Every worker reports, and Ray returns when the checkpoint is stored.
        ray.train.report(dict(metrics), checkpoint=None if folder is None else ray.train.Checkpoint.from_directory(folder))
        if self._should_grow():
            raise Regrouping


def train_loop_per_worker(config: dict[str, Any]) -> Any:
    """Ray Train's entry on every worker.

    ``config`` has ``may_grow``, whether more workers may join, and ``shared``, a reference to what all groups of workers share.

    An error that a retry would find again is returned, so that Ray does not retry; but only where no peer waits for this worker.
    Everything else is raised: Ray then ends the peers, wherever they wait, and starts all workers again.
    """
    import ray.train
    from ray.train.torch import get_device

    config = ray.get(config["shared"]) | config

    def finalize(training: FinishedTraining) -> Any:
        try:
            return config["finalize"](training)
        except LASTING_ERRORS as error:  # by now the peers have ended
            return error

    context, device = ray.train.get_context(), get_device()
    rank = context.get_world_rank()

    if rank == 0 and config["may_grow"]:
        config["progress"].set_group.remote(GroupState.TRAINING)

    def should_grow() -> bool:
        return config["may_grow"] and any_worker(rank == 0 and group_state(config["progress"]) == GroupState.MAY_GROW, device)

    setup = WorkerSetup(
        device=device,
        checkpoints=_RayCheckpoints(should_grow),
        on_progress=config["progress"].put.remote,
        finalize=finalize,
        rank=rank,
        world_size=context.get_world_size(),
    )
    try:
        with announcing(config["progress"].put_wait.remote if rank == 0 else _say_nothing):
            return run_worker(config["task"], setup)
    except Regrouping as regrouping:
        return regrouping
    except LASTING_ERRORS as error:
        if setup.world_size == 1:
            return error
        raise
    except AgreedError as agreed:
        if isinstance(agreed.error, LASTING_ERRORS):
            return agreed.error
        raise agreed.error from agreed


def _say_nothing(text: str) -> None:
    """The first worker says what all are waiting for."""


def group_state(progress: Any) -> GroupState | None:
    """What the actor of a training says of its workers; None if it does not answer."""
    import ray

    try:
        return GroupState(ray.get(progress.group.remote(), timeout=10))
    except ray.exceptions.RayError:
        return None
