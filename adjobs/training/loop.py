"""The training loop: plain PyTorch, no Ray. One call trains all stages of a method on one worker.

A stage is cut into evaluation intervals: an epoch, or ``INTERVAL_STEPS`` steps of a stage whose length is given in steps. After
each interval the method is validated, a checkpoint is stored and the metrics are reported. All randomness of a step comes from
(seed, stage, step, rank), so that a run resumed from a checkpoint repeats itself exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from adjobs.data.batches import BatchPlan, TrainingData
from adjobs.errors import AdjobsError
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.methods.contract import Progress, Selection, Stage
from adjobs.methods.method import Method
from adjobs.nn.distributed import broadcast_buffers
from adjobs.nn.norm import synchronise_batch_norm
from adjobs.training import checkpoint
from adjobs.training.callbacks import Callback, IntervalResult
from adjobs.training.checkpoint import Checkpoints
from adjobs.training.device import peak_memory_mib
from adjobs.training.progress import ProgressUpdate
from adjobs.training.stage_cache import train_or_load

INTERVAL_STEPS = 100
PROGRESS_SECONDS = 0.5


class TrainingError(AdjobsError):
    """The training itself went wrong: it diverged."""


@dataclass(frozen=True)
class WorkerContext:
    """This worker among its peers.

    Attributes:
        runner: device and precision.
        rank: of this worker.
        world_size: number of workers.
        seed: of the training.
        reuse_stages: load stages that an equal run on this machine has already trained.
    """

    device_config: DeviceConfig
    rank: int = 0
    world_size: int = 1
    seed: int = 0
    reuse_stages: bool = False


class FitResult(NamedTuple):
    """How a training ended.

    Attributes:
        selected_checkpoint: number of the checkpoint that became the model.
        checkpoints: how many there were.
        images_per_s: mean training speed of this process; nan when nothing was left to train.
    """

    selected_checkpoint: int
    checkpoints: int
    images_per_s: float

    @property
    def is_last(self) -> bool:
        """Whether the model is the last checkpoint, whose weights the method had when it was last validated."""
        return self.selected_checkpoint == self.checkpoints


class Validation(NamedTuple):
    """How checkpoints are compared.

    Attributes:
        selection: which checkpoint's weights become the model.
        evaluate: image metrics on the validation split, called on rank 0; None where it lacks normal or anomalous images.
        every: a stage is validated after every so many of its intervals; the last interval of all always is.
    """

    selection: Selection
    evaluate: Callable[[], Mapping[str, float | None]] | None
    every: int = 1


def fit(
    method: Method,
    data: TrainingData,
    worker: WorkerContext,
    *,
    validation: Validation,
    checkpoints: Checkpoints,
    callback: Callback,
    on_train_start: Callable[[], None] = lambda: None,
) -> FitResult:
    """Train all stages, from the last checkpoint if there is one, and leave the selected weights in ``method``.

    Args:
        method: on the worker's device.
        data: the training split.
        worker: device, rank, seed.
        validation: how checkpoints are compared.
        checkpoints: where the state goes after each interval.
        callback: called with progress and metrics on rank 0.
        on_train_start: called before the first step of a fresh training, not of one that is resumed from a checkpoint.

    Raises:
        TrainingError: the loss is not finite.
        DataError: the data lack what a stage asks for.
    """
    run = _Run(method, data, worker, validation, checkpoints, callback)
    stages = method.stages()
    for stage in stages:
        if stage.optimizer is not None:
            run.plan(stage)  # a batch that does not fit is refused before any work
    optimizer_state = run.restore(on_train_start)
    for index in range(run.progress.stage, len(stages)):
        run.train_stage(stages[index], index, optimizer_state, last=index + 1 == len(stages), several=len(stages) > 1)
        optimizer_state = None
    return run.select()


@dataclass
class _StageRun:
    """One stage under way: what stays the same from interval to interval."""

    stage: Stage
    index: int
    module: nn.Module
    optimizer: Optimizer
    base_lr: list[float]
    plan: BatchPlan
    total: int

    @property
    def length(self) -> int:
        """Steps in an evaluation interval."""
        return min(INTERVAL_STEPS, self.total) if self.stage.steps else self.plan.steps_per_epoch


class _Run:
    """State of one call of ``fit``."""

    def __init__(
        self,
        method: Method,
        data: TrainingData,
        worker: WorkerContext,
        validation: Validation,
        checkpoints: Checkpoints,
        callback: Callback,
    ) -> None:
        self.method = method
        self.data = data
        self.worker = worker
        self.validation = validation
        self.checkpoints = checkpoints
        self.callback = callback
        self.progress = checkpoint.Progress()
        self.best: dict[str, Tensor] | None = None
        self.images, self.seconds = 0, 0.0

    def restore(self, on_train_start: Callable[[], None]) -> dict[str, Any] | None:
        """Load the last checkpoint, or start afresh; returns the optimizer's state when a stage was under way."""
        with self.checkpoints.load() as folder:
            restored = None if folder is None else checkpoint.read(folder)
        if restored is None:
            on_train_start()
            return None
        self.method.load_state_dict(restored.method)
        self.best, self.progress = restored.best, restored.progress
        return restored.optimizer

    def train_stage(self, stage: Stage, index: int, optimizer_state: dict[str, Any] | None, *, last: bool, several: bool) -> None:
        """Train one stage from the step that was reached."""
        if stage.prepare is not None and stage.name not in self.progress.prepared:
            stage.prepare(self.data)
            broadcast_buffers(self.method)
            self.progress.prepared.append(stage.name)
        if stage.on_stage_start is not None:
            stage.on_stage_start(self.data)
        if stage.optimizer is None:
            self.progress.stage, self.progress.step = index + 1, 0
            self._finish_interval({}, None, stage, 1, last=last)
            return
        run = self._start(stage, index, stage.optimizer(), optimizer_state)
        prefix = f"train/{stage.name}/" if several else "train/"
        if self._can_reuse(stage, last=last):
            seed_key = {"index": index, "seed": self.worker.seed, "runner": [str(field) for field in self.worker.device_config]}
            if not train_or_load(self.data, stage, seed_key, lambda: self._train_intervals(run, prefix, last=last)):
                self._skip_to_end(run)
        else:
            self._train_intervals(run, prefix, last=last)

    def _can_reuse(self, stage: Stage, *, last: bool) -> bool:
        """Whether another run's stage may stand in: nothing of it has been trained here, and no checkpoint of it could win."""
        shareable = self.worker.reuse_stages and self.worker.world_size == 1 and stage.depends_on is not None
        could_win = last or (stage.predicts and self.validation.selection.rule == "best")
        return shareable and self.progress.step == 0 and not could_win

    def _train_intervals(self, run: _StageRun, prefix: str, *, last: bool) -> None:
        """Train the remaining intervals of a stage."""
        while self.progress.stage == run.index:
            number = self.progress.step // run.length + 1  # of this interval within its stage
            until = min(run.total, number * run.length)
            metrics = self._train_interval(run, range(self.progress.step, until))
            final = until == run.total
            self.progress.stage, self.progress.step = (run.index + 1, 0) if final else (run.index, until)
            prefixed = {f"{prefix}{name}": value for name, value in metrics.items()}
            self._finish_interval(prefixed, None if final else run.optimizer, run.stage, number, last=final and last)

    def _skip_to_end(self, run: _StageRun) -> None:
        """Continue after a stage that another run has trained; intervals are counted as if it had been trained here."""
        self.progress.stage, self.progress.step = run.index + 1, 0
        intervals = math.ceil(run.total / run.length)
        self.progress.interval += intervals - 1
        self._finish_interval({}, None, run.stage, intervals, last=False)

    def _start(self, stage: Stage, index: int, optimizer: Optimizer, state: dict[str, Any] | None) -> _StageRun:
        plan = self.plan(stage)
        base_lr = [group["lr"] for group in optimizer.param_groups]  # before a schedule has moved them
        if state is not None:
            optimizer.load_state_dict(state)
        total = stage.steps or stage.epochs * plan.steps_per_epoch
        train_only(stage.module, optimizer)
        return _StageRun(stage, index, self._distributed(stage.module), optimizer, base_lr, plan, total)

    def plan(self, stage: Stage) -> BatchPlan:
        """The batches of a stage that trains."""
        return self.data.plan(stage.mix, self.worker.world_size, stage.size_params)

    def _distributed(self, module: nn.Module) -> nn.Module:
        if self.worker.world_size == 1:
            return module
        device = self.worker.device_config.device
        device_ids = [device.index or 0] if device.type == "cuda" else None
        # Buffers agree: they start equal, and statistics are those of the global batch. A memory bank would be sent in each step.
        return DistributedDataParallel(synchronise_batch_norm(module, device), device_ids=device_ids, broadcast_buffers=False)

    def _train_interval(self, run: _StageRun, steps: range) -> dict[str, float]:
        """Take the steps of one interval; returns mean losses, learning rates and speed."""
        sums: dict[str, Tensor] = {}
        images = 0
        started_at = reported_at = time.perf_counter()
        run.module.train()
        for step in steps:
            for name, value in self._step(run, step).items():
                sums[name] = sums[name] + value if name in sums else value
            images += run.plan.global_size(step)
            now = time.perf_counter()
            if self.worker.rank == 0 and now - reported_at > PROGRESS_SECONDS:
                reported_at = now
                mean = float(sums["loss"]) / (step - steps.start + 1)
                self.callback.on_progress(ProgressUpdate(run.stage.name, step + 1, run.total, mean, images / (now - started_at)))
        means = {name: float(value) / len(steps) for name, value in sums.items()}  # float() waits for the device
        elapsed = time.perf_counter() - started_at
        self.images, self.seconds = self.images + images, self.seconds + elapsed
        if self.worker.rank == 0:
            self.callback.on_progress(ProgressUpdate(run.stage.name, steps.stop, run.total, means["loss"], images / elapsed))
        self._check_finite(means, run.stage)
        means |= {f"lr_{i}" if i else "lr": group["lr"] for i, group in enumerate(run.optimizer.param_groups)}
        return means | {"images_per_s": images / elapsed, "peak_memory_mib": peak_memory_mib(self.worker.device_config.device)}

    def _step(self, run: _StageRun, step: int) -> dict[str, Tensor]:
        """One optimizer step; returns the loss and its terms."""
        factor = run.stage.schedule(Progress(step // run.plan.steps_per_epoch, step / run.total))
        for group, rate in zip(run.optimizer.param_groups, run.base_lr, strict=True):
            group["lr"] = rate * factor
        worker = self.worker
        batch = run.plan.batch(step, seed=worker.seed, stage=run.index, rank=worker.rank, device=worker.device_config.device)
        # Dropout inside networks of other libraries draws from the global generator.
        torch.manual_seed(batch.generator.initial_seed())
        with self._autocast():
            loss = run.module(batch)
        run.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        if run.stage.clip_norm is not None:
            nn.utils.clip_grad_norm_([p for group in run.optimizer.param_groups for p in group["params"]], run.stage.clip_norm)
        run.optimizer.step()
        return {"loss": loss.total.detach(), **loss.terms}

    def _autocast(self) -> torch.autocast:
        dtype = self.worker.device_config.autocast
        return torch.autocast(self.worker.device_config.device.type, dtype or torch.bfloat16, enabled=dtype is not None)

    def _check_finite(self, means: Mapping[str, float], stage: Stage) -> None:
        not_finite = sorted(name for name, value in means.items() if not math.isfinite(value))
        if not_finite:
            raise TrainingError(
                f"stage {stage.name}, interval {self.progress.interval + 1}: {', '.join(not_finite)} not finite; "
                "lower the learning rate, or use train.precision fp32"
            )

    def _finish_interval(
        self, metrics: dict[str, float], optimizer: Optimizer | None, stage: Stage, number: int, *, last: bool
    ) -> None:
        """Fit statistics, validate, keep the best, report, and store a checkpoint; ``number`` counts within the stage."""
        self.progress.interval += 1
        due = last or (stage.predicts and number % self.validation.every == 0)
        if stage.fit_statistics is not None and (last or (due and self.validation.evaluate is not None)):
            stage.fit_statistics(self.data)
            broadcast_buffers(self.method)
        if self.worker.rank == 0 and due:
            metrics = metrics | self._validate()
        with TemporaryDirectory(prefix="adjobs-") as temporary:
            folder = None
            if self.worker.rank == 0:
                self.callback.on_interval_end(IntervalResult(self.progress.interval, metrics))
                folder = Path(temporary) / "checkpoint"
                checkpoint.write(folder, self.method, optimizer, self.best, self.progress)
            self.checkpoints.save(folder, metrics | {"interval": float(self.progress.interval)})

    def _validate(self) -> dict[str, float]:
        """Evaluate on the validation split; the best weights so far are kept whatever the selection rule."""
        if self.validation.evaluate is None:
            return {}
        metrics = {name: value for name, value in self.validation.evaluate().items() if value is not None}
        value = metrics.get(self.validation.selection.metric)
        # Of equals the later: F1 of few images has many ties, and without any alarm it is 0 from the first checkpoint on.
        if value is not None and (self.progress.best is None or value >= self.progress.best):
            self.progress.best, self.progress.best_interval = value, self.progress.interval
            self.best = checkpoint.snapshot(self.method)
        return {f"val/{name}": value for name, value in metrics.items()}

    def select(self) -> FitResult:
        """Put the selected weights into the method."""
        speed = self.images / self.seconds if self.seconds else math.nan
        if self.validation.selection.rule == "best" and self.best is not None and self.progress.best_interval is not None:
            self.method.load_state_dict(self.best)
            return FitResult(self.progress.best_interval, self.progress.interval, speed)
        return FitResult(self.progress.interval, self.progress.interval, speed)


def train_only(module: nn.Module, optimizer: Optimizer) -> None:
    """Train what the optimizer holds and freeze the rest: what never gets a gradient stops DistributedDataParallel."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in held)
