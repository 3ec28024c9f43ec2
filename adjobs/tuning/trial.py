"""A trial: an ordinary training job in the process of a Ray Tune actor, judged by its validation part alone."""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from adjobs import evaluate, methods
from adjobs.data.splits import Split
from adjobs.errors import DataError, JobError
from adjobs.job import JobConfig
from adjobs.tracking.run import Recorder
from adjobs.training import worker
from adjobs.training.checkpoint import StoreCheckpoints
from adjobs.training.conclude import Look, choose_pixel_threshold, choose_threshold, record_thresholds
from adjobs.training.loop import Trained, TrainingError
from adjobs.training.worker import Task


@dataclass(frozen=True)
class Order:
    """What a trial's process is told.

    Attributes:
        number: of the trial.
        task: what to do; its split has no test part, which no trial has any business with.
        storage: where the checkpoints go.
        metric: of validation, reported after each round.
        gpus: that the process has.
    """

    number: int
    task: Task
    storage: str
    metric: str
    gpus: float


def run(config: Mapping[str, Any]) -> None:
    """Ray Tune's entry: train, report after each round, and the values or the failure at the end."""
    from ray import tune

    order: Order = config["order"]
    device = torch.device("cuda" if order.gpus and torch.cuda.is_available() else "cpu")
    begin = time.perf_counter()
    _fresh(device)
    try:
        with TemporaryDirectory(prefix="adjobs-") as scratch:
            checkpoints = _Reporting(order, Path(scratch))
            summary = worker.run(
                order.task, device=device, rank=0, world=1, checkpoints=checkpoints, tell=lambda tick: None, finish=judge
            )
    except torch.OutOfMemoryError as error:
        tune.report({"memory": str(error).split(". ")[0]})
        return
    except (JobError, DataError, TrainingError) as error:
        tune.report({"refused": str(error)})
        return
    costs = {"train_seconds": time.perf_counter() - begin - summary["judged_in"], "peak_memory_mb": peak_memory_mb(device)}
    recorder = Recorder(order.task.tracking_uri, order.task.run_id)
    recorder.metrics({f"costs/{name}": value for name, value in {**costs, **summary["costs"]}.items()}, summary["rounds"])
    recorder.tags({"outcome": "finished"})  # from here on nothing of this trial is done again
    # As text: Tune takes mappings apart.
    tune.report({"values": json.dumps({**summary["values"], **summary["costs"], **costs})})


def judge(job: JobConfig, fingerprint: str, split: Split, look: Look, trained: Trained, recorder: Recorder) -> dict[str, Any]:
    """Measure the trained method on validation, and keep what a person may want to look at: scores and thresholds."""
    begin = time.perf_counter()
    timed = look.again(split.val)
    scores = timed.scores
    values = evaluate.measure_images(scores, methods.spec(job.method).own_threshold) | evaluate.measure_pixels(scores)
    threshold = choose_threshold(job, scores)
    recorder.metrics({f"val/{name}": value for name, value in values.items()}, trained.rounds)
    record_thresholds(recorder, threshold, choose_pixel_threshold(job, scores))
    recorder.scores(scores, threshold.value, "val")
    recorder.tags({"selected_round": str(trained.selected_round), "rounds": str(trained.rounds)})
    return {
        "values": {name: value for name, value in values.items() if value is not None},
        "costs": {"ms_per_image": timed.ms_per_image},
        "rounds": trained.rounds,
        "judged_in": time.perf_counter() - begin,
    }


class _Reporting(StoreCheckpoints):
    """Checkpoints that are followed by a report: whoever stops the trial then knows that the round is safe."""

    def __init__(self, order: Order, scratch: Path) -> None:
        super().__init__(order.storage, scratch)
        self._metric = f"val/{order.metric}"

    def save(self, folder: Path | None, metrics: Mapping[str, float]) -> None:
        """Store, then report; Tune ends the thread here when the trial is to stop."""
        from ray import tune

        super().save(folder, metrics)
        self.rounds += 1
        tune.report({"round": self.rounds, "value": metrics.get(self._metric)})

    def load(self) -> Path | None:
        """The last checkpoint, and the number of its round."""
        from adjobs.training import checkpoint

        folder = super().load()
        self.rounds = 0 if folder is None else checkpoint.read(folder).progress.round
        return folder


def _fresh(device: torch.device) -> None:
    """Give back what an earlier trial of this process left behind."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float:
    """The most that this process held, in MiB: reserved on the GPU with what CUDA itself takes there, or resident."""
    if device.type != "cuda":
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    free, total = torch.cuda.mem_get_info(device)
    context = total - free - torch.cuda.memory_reserved(device)
    return (torch.cuda.max_memory_reserved(device) + max(0, context)) / 2**20
