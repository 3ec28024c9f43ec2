"""A trial: an ordinary training job in the process of a Ray Tune actor, evaluated on its validation split alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adjobs import devices, methods
from adjobs.config import environment
from adjobs.errors import ClusterError, DataError, JobError, one_line
from adjobs.evaluation.result import compute_image_metrics, compute_pixel_metrics
from adjobs.jobs.finalize import choose_job_thresholds, log_thresholds
from adjobs.tracking.runs import open_writer
from adjobs.training.backends import ray as ray_backend
from adjobs.training.checkpoint import StoreCheckpoints
from adjobs.training.device import peak_memory_mib, release_memory
from adjobs.training.resources import WorkerResources
from adjobs.training.stage_trainer import TrainingError
from adjobs.training.worker import FinishedTraining, Task, WorkerSetup, run_worker
from adjobs.tuning.failures import is_out_of_memory
from adjobs.tuning.state import TrialState


@dataclass(frozen=True)
class TrialSpec:
    """What the process of a trial needs to know.

    Attributes:
        number: of the trial.
        task: what to train; its split has no test images, because no trial may see them.
        storage: where the checkpoints go.
        resources: of each worker.
        elapsed_seconds: that earlier processes of this trial took.
    """

    number: int
    task: Task
    storage: str
    resources: WorkerResources
    elapsed_seconds: float = 0.0


@dataclass(frozen=True)
class TrialEvaluation:
    """A trained trial.

    Attributes:
        values: metrics of the validation split, without undefined ones.
        costs: time for an image and peak memory.
        checkpoints: how many there were.
        seconds: that the evaluation took.
    """

    values: dict[str, float]
    costs: dict[str, float]
    checkpoints: int
    seconds: float


def run_trial(config: Mapping[str, Any]) -> None:
    """Ray Tune's entry: train, report after each interval, and report the values or the failure at the end."""
    from ray import tune

    environment.apply(os.environ, environment.TRIAL_VARIABLES)
    spec: TrialSpec = config["spec"]
    started_at = time.perf_counter()
    try:
        evaluation = _train_in_process(spec) if spec.task.job.train.min_workers == 1 else _train_on_workers(spec)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        tune.report({"out_of_memory": one_line(error)})
        return
    except ClusterError as error:  # from a trial's workers, after Ray Train's own retries
        tune.report({"out_of_memory" if is_out_of_memory(error) else "error": one_line(error)})
        return
    except (JobError, DataError, TrainingError) as error:
        tune.report({"error": str(error)})
        return
    train_seconds = spec.elapsed_seconds + time.perf_counter() - started_at - evaluation.seconds
    costs = {**evaluation.costs, "train_seconds": train_seconds}
    writer = open_writer(spec.task.run)
    writer.log_metrics({f"costs/{name}": value for name, value in costs.items()}, evaluation.checkpoints)
    writer.set_tags({"state": str(TrialState.COMPLETE)})  # from here on nothing of this trial is repeated
    # As text: Tune takes mappings apart.
    tune.report({"values": json.dumps({**evaluation.values, **costs})})


def _train_in_process(spec: TrialSpec) -> TrialEvaluation:
    device = devices.automatic_device(spec.resources.gpus > 0)
    release_memory(device)
    setup = WorkerSetup(device, _ReportingCheckpoints(spec.storage), lambda update: None, evaluate_trial)
    evaluation = run_worker(spec.task, setup)
    assert evaluation is not None  # rank 0
    return evaluation


def _train_on_workers(spec: TrialSpec) -> TrialEvaluation:
    """Train with Ray Train, whose reports are passed on to Tune."""
    from ray.tune.integration.ray_train import TuneReportCallback

    workers = spec.task.job.train.min_workers  # the same for all trials
    return ray_backend.run(
        spec.task, spec.storage, spec.resources, lambda update: None, evaluate_trial, [TuneReportCallback()], workers
    )


def evaluate_trial(training: FinishedTraining) -> TrialEvaluation:
    """Evaluate on validation, and log what a person may want to see of a trial: scores and thresholds."""
    started_at = time.perf_counter()
    job, fit, writer = training.job, training.fit, training.writer
    timed = training.evaluator.cached(training.split.val)
    scores = timed.scores
    values = compute_image_metrics(scores, methods.spec(job.method).native_threshold) | compute_pixel_metrics(scores)
    thresholds = choose_job_thresholds(training, scores)
    writer.log_metrics({f"val/{name}": value for name, value in values.items()}, fit.checkpoints)
    log_thresholds(writer, thresholds)
    writer.log_scores(scores, thresholds.image.value, "val")
    writer.set_tags({"selected_checkpoint": str(fit.selected_checkpoint), "checkpoints": str(fit.checkpoints)})
    device = next(training.evaluator.method.parameters()).device
    return TrialEvaluation(
        values={name: value for name, value in values.items() if value is not None},
        costs={"ms_per_image": timed.ms_per_image, "peak_memory_mib": peak_memory_mib(device)},
        checkpoints=fit.checkpoints,
        seconds=time.perf_counter() - started_at,
    )


class _ReportingCheckpoints(StoreCheckpoints):
    """Checkpoints that are followed by a report: a trial that is stopped at a report has stored the interval."""

    def save(self, folder: Path | None, metrics: Mapping[str, float]) -> None:
        """Store, then report; Tune ends the thread in this call if the trial is to stop."""
        from ray import tune

        super().save(folder, metrics)
        tune.report(dict(metrics))
