"""Training in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable

from adjobs import devices
from adjobs.training.checkpoint import StoreCheckpoints
from adjobs.training.progress import ProgressUpdate
from adjobs.training.worker import FinishedTraining, Outcome, Task, WorkerSetup, run_worker


def run(
    task: Task,
    storage: str,
    on_progress: Callable[[ProgressUpdate], None],
    finalize: Callable[[FinishedTraining], Outcome],
) -> Outcome:
    """Train a task here, from its last checkpoint if there is one.

    Args:
        task: what to train.
        storage: folder or ``s3://`` URI of this run's checkpoints.
        on_progress: called with the progress.
        finalize: what is done with the trained method.
    """
    device = devices.automatic_device(task.job.train.gpus_per_worker != 0)
    outcome = run_worker(task, WorkerSetup(device, StoreCheckpoints(storage), on_progress, finalize))
    assert outcome is not None  # rank 0
    return outcome
