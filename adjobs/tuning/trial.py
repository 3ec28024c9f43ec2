"""A trial: an ordinary training job in the process of a Ray Tune actor, judged by its validation part alone."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adjobs import methods
from adjobs.config import environment
from adjobs.config.job import JobConfig
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import ClusterError, DataError, JobError, one_line
from adjobs.evaluation.evaluate import CachedEvaluator
from adjobs.evaluation.result import compute_image_metrics, compute_pixel_metrics
from adjobs.evaluation.thresholds import choose_thresholds
from adjobs.jobs.finalize import record_thresholds
from adjobs.tracking.run import RunWriter
from adjobs.training import worker
from adjobs.training.backends import ray as ray_backend
from adjobs.training.backends.ray import WorkerResources
from adjobs.training.checkpoint import StoreCheckpoints
from adjobs.training.device import peak_memory_mib
from adjobs.training.loop import FitResult, TrainingError
from adjobs.training.worker import Task

# PyTorch's on processors; the names of PyTorch's, Ray's and Python's exceptions as ``ray_backend.run`` tells them.
OUT_OF_MEMORY_TEXTS = ("can't allocate memory", "OutOfMemoryError", "MemoryError")


@dataclass(frozen=True)
class Order:
    """What a trial's process is told.

    Attributes:
        number: of the trial.
        task: what to do; its split has no test part, which no trial has any business with.
        storage: where the checkpoints go.
        wanted: what each worker gets.
        spent: seconds that earlier processes of this trial took.
    """

    number: int
    task: Task
    storage: str
    wanted: WorkerResources
    spent: float = 0.0


def run(config: Mapping[str, Any]) -> None:
    """Ray Tune's entry: train, report after each round, and the values or the failure at the end."""
    from ray import tune

    environment.apply(os.environ, environment.TRIAL_VARIABLES)
    order: Order = config["order"]
    begin = time.perf_counter()
    try:
        summary = _here(order) if order.task.job.train.workers == 1 else _on_workers(order)
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        tune.report({"memory": one_line(error)})
        return
    except ClusterError as error:  # of a trial's workers, after Ray Train's own retries
        tune.report({"memory" if _is_of_memory(error) else "refused": one_line(error)})
        return
    except (JobError, DataError, TrainingError) as error:
        tune.report({"refused": str(error)})
        return
    costs = {**summary["costs"], "train_seconds": order.spent + time.perf_counter() - begin - summary["judged_in"]}
    recorder = RunWriter(order.task.tracking_uri, order.task.run_id)
    recorder.metrics({f"costs/{name}": value for name, value in costs.items()}, summary["rounds"])
    recorder.tags({"outcome": "finished"})  # from here on nothing of this trial is done again
    # As text: Tune takes mappings apart.
    tune.report({"values": json.dumps({**summary["values"], **costs})})


def _is_of_memory(error: Exception) -> bool:
    """Whether memory ran out: on processors PyTorch says so in words alone, and of other processes Ray does."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY_TEXTS)


def _here(order: Order) -> dict[str, Any]:
    """Train in this process."""
    device = torch.device("cuda" if order.wanted.gpus and torch.cuda.is_available() else "cpu")
    _fresh(device)
    checkpoints = _Reporting(order.storage)
    return worker.run(
        order.task,
        device=device,
        rank=0,
        world_size=1,
        checkpoints=checkpoints,
        on_progress=lambda tick: None,
        finish=evaluate_trial,
    )


def _on_workers(order: Order) -> dict[str, Any]:
    """Train with Ray Train, whose reports go on to Tune."""
    from ray.tune.integration.ray_train import TuneReportCallback

    return ray_backend.run(order.task, order.storage, order.wanted, lambda tick: None, evaluate_trial, [TuneReportCallback()])


def evaluate_trial(
    job: JobConfig, fingerprint: str, split: SplitAssignment, evaluator: CachedEvaluator, trained: FitResult, recorder: RunWriter
) -> dict[str, Any]:
    """Measure the trained method on validation, and keep what a person may want to look at: scores and thresholds."""
    begin = time.perf_counter()
    timed = evaluator.cached(split.val)
    scores = timed.scores
    values = compute_image_metrics(scores, methods.spec(job.method).native_threshold) | compute_pixel_metrics(scores)
    thresholds = choose_thresholds(job.threshold.to_policy(), job.pixel_threshold.to_policy(job.threshold.confidence), scores)
    recorder.metrics({f"val/{name}": value for name, value in values.items()}, trained.rounds)
    record_thresholds(recorder, thresholds)
    recorder.scores(scores, thresholds.image.value, "val")
    recorder.tags({"selected_checkpoint": str(trained.selected_checkpoint), "rounds": str(trained.rounds)})
    return {
        "values": {name: value for name, value in values.items() if value is not None},
        "costs": {
            "ms_per_image": timed.ms_per_image,
            "peak_memory_mib": peak_memory_mib(next(evaluator.method.parameters()).device),
        },
        "rounds": trained.rounds,
        "judged_in": time.perf_counter() - begin,
    }


class _Reporting(StoreCheckpoints):
    """Checkpoints that are followed by a report: whoever stops the trial then knows that the round is safe."""

    def save(self, folder: Path | None, metrics: Mapping[str, float]) -> None:
        """Store, then report; Tune ends the thread here when the trial is to stop."""
        from ray import tune

        super().save(folder, metrics)
        tune.report(dict(metrics))


def _fresh(device: torch.device) -> None:
    """Give back what an earlier trial of this process left behind."""
    gc.collect()
    # Each trial is a thread with a heap of its own, and glibc keeps what is freed there.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with contextlib.suppress(OSError):  # not on Linux: then the peak of an earlier trial counts, too
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak (proc_pid_clear_refs(5))
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
