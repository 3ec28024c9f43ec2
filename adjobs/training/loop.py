"""The training loop: plain PyTorch, no Ray. One call trains all stages of a method on one worker.

A stage is cut into rounds: an epoch, or ``ROUND_STEPS`` steps of a stage whose length is given in steps. After each round the
method is validated, a checkpoint is stored and the metrics are reported. All randomness of a step comes from (seed, stage, step,
rank), so that a run resumed from a checkpoint repeats itself exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from adjobs.data.batches import BatchPlan, TrainingData
from adjobs.errors import AdjobsError
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.methods.contract import Progress, Selection, Stage
from adjobs.nn.norm import synchronised
from adjobs.nn.distributed import take_from_first
from adjobs.training import checkpoint
from adjobs.training.checkpoint import Checkpoints
from adjobs.training.device import peak_memory_mib
from adjobs.training.stage_cache import train_or_load

ROUND_STEPS = 100
TICK_SECONDS = 0.5


class TrainingError(AdjobsError):
    """The training itself went wrong: it diverged."""


@dataclass(frozen=True)
class WorkerContext:
    """This worker among its peers; one that ``reuse_stages`` takes over stages that others of this machine have trained alike."""

    runner: DeviceConfig
    rank: int = 0
    world_size: int = 1
    seed: int = 0
    reuse_stages: bool = False


class ProgressUpdate(NamedTuple):
    """Progress inside a round, for a bar: steps done and to do over the whole stage, mean loss of the round, global images/s."""

    stage: str
    done: int
    total: int
    loss: float
    images_per_s: float


class Round(NamedTuple):
    """A finished round: its number over all stages, and everything to record for it."""

    number: int
    metrics: dict[str, float]


class Listener(Protocol):
    """Whoever wants to know; called on rank 0 only."""

    def tick(self, tick: ProgressUpdate) -> None:
        """Every half second or so."""
        ...

    def round(self, finished: Round) -> None:
        """After every round, before its checkpoint is stored."""
        ...


class FitResult(NamedTuple):
    """Outcome.

    Attributes:
        selected_round: the round that became the model.
        rounds: how many there were.
        images_per_s: mean training speed of this process's part of the run; nan when there was nothing left to train.
    """

    selected_round: int
    rounds: int
    images_per_s: float

    @property
    def is_last(self) -> bool:
        """Whether the model is the last round, whose weights the method had when it was last validated."""
        return self.selected_round == self.rounds


class Validation(NamedTuple):
    """How checkpoints are judged.

    Attributes:
        selection: which round's weights become the model.
        measure: image measures on the validation part, called on rank 0; None where there is nothing to measure on.
        every: rounds between two validations; the last round is always validated.
    """

    selection: Selection
    measure: Callable[[], Mapping[str, float | None]] | None
    every: int = 1


def fit(
    method: nn.Module,
    data: TrainingData,
    worker: WorkerContext,
    *,
    validation: Validation,
    checkpoints: Checkpoints,
    listener: Listener,
    begin: Callable[[], None] = lambda: None,
) -> FitResult:
    """Train all stages, from the last checkpoint if there is one, and leave the selected weights in ``method``.

    Args:
        method: on the worker's device.
        data: the training part.
        worker: device, rank, seed.
        validation: how checkpoints are judged.
        checkpoints: where the state goes after each round.
        listener: told of progress on rank 0.
        begin: called before the first step of a training that starts anew, not of one that goes on from a checkpoint.

    Raises:
        TrainingError: the loss is not finite.
        DataError: the data lack what a stage asks for.
    """
    run = _Run(method, data, worker, validation, checkpoints, listener)
    stages: Sequence[Stage] = method.stages()  # type: ignore[operator]
    for stage in stages:
        if stage.optimizer is not None:
            run.plan(stage)  # what does not fit is said before any work
    optimizer_state = run.restore(begin)
    for index in range(run.progress.stage, len(stages)):
        run.train_stage(stages[index], index, optimizer_state, last=index + 1 == len(stages), several=len(stages) > 1)
        optimizer_state = None
    return run.select()


@dataclass
class _StageRun:
    """One stage under way: what stays the same from round to round."""

    stage: Stage
    index: int
    module: nn.Module
    optimizer: Optimizer
    base_lr: list[float]
    plan: BatchPlan
    total: int

    @property
    def length(self) -> int:
        """Steps in a round."""
        return min(ROUND_STEPS, self.total) if self.stage.steps else self.plan.steps_per_epoch


class _Run:
    """State of one call of ``fit``."""

    def __init__(
        self,
        method: nn.Module,
        data: TrainingData,
        worker: WorkerContext,
        validation: Validation,
        checkpoints: Checkpoints,
        listener: Listener,
    ) -> None:
        self.method = method
        self.data = data
        self.worker = worker
        self.validation = validation
        self.checkpoints = checkpoints
        self.listener = listener
        self.progress = checkpoint.Progress()
        self.best: dict[str, Tensor] | None = None
        self.images, self.seconds = 0, 0.0

    def restore(self, begin: Callable[[], None]) -> dict[str, Any] | None:
        """Take up the last checkpoint, or begin; returns the optimizer's state when a stage was under way."""
        with self.checkpoints.load() as folder:
            restored = None if folder is None else checkpoint.read(folder)
        if restored is None:
            begin()
            return None
        self.method.load_state_dict(restored.method)
        self.best, self.progress = restored.best, restored.progress
        return restored.optimizer

    def train_stage(self, stage: Stage, index: int, optimizer_state: dict[str, Any] | None, *, last: bool, several: bool) -> None:
        """Train one stage from the step that was reached."""
        if stage.prepare is not None and stage.name not in self.progress.prepared:
            stage.prepare(self.data)
            take_from_first(self.method)
            self.progress.prepared.append(stage.name)
        if stage.on_stage_start is not None:
            stage.on_stage_start(self.data)
        if stage.optimizer is None:
            self.progress.stage, self.progress.step = index + 1, 0
            self._finish_round({}, None, stage, last=last)
            return
        run = self._start(stage, index, stage.optimizer(), optimizer_state)
        prefix = f"train/{stage.name}/" if several else "train/"
        if self._can_reuse(stage, last=last):
            seed_key = {"index": index, "seed": self.worker.seed, "runner": [str(part) for part in self.worker.runner]}
            if not train_or_load(self.data, stage, seed_key, lambda: self._all_rounds(run, prefix, last=last)):
                self._skip_to_end(run)
        else:
            self._all_rounds(run, prefix, last=last)

    def _can_reuse(self, stage: Stage, *, last: bool) -> bool:
        """Whether a stage may be another run's: nothing of it has been done here, and no round of it could become the model."""
        alone = self.worker.reuse_stages and self.worker.world_size == 1 and stage.depends_on is not None
        could_win = last or (stage.predicts and self.validation.selection.rule == "best")
        return alone and self.progress.step == 0 and not could_win

    def _all_rounds(self, run: _StageRun, prefix: str, *, last: bool) -> None:
        """Train the rounds of a stage that are left."""
        while self.progress.stage == run.index:
            until = min(run.total, (self.progress.step // run.length + 1) * run.length)
            metrics = self._round(run, range(self.progress.step, until))
            final = until == run.total
            self.progress.stage, self.progress.step = (run.index + 1, 0) if final else (run.index, until)
            named = {f"{prefix}{name}": value for name, value in metrics.items()}
            self._finish_round(named, None if final else run.optimizer, run.stage, last=final and last)

    def _skip_to_end(self, run: _StageRun) -> None:
        """Go on after a stage that another run has trained; rounds are counted as if it had been trained here."""
        self.progress.stage, self.progress.step = run.index + 1, 0
        self.progress.round += math.ceil(run.total / run.length) - 1
        self._finish_round({}, None, run.stage, last=False)

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
        device = self.worker.runner.device
        own = [device.index or 0] if device.type == "cuda" else None
        # Buffers agree: they began alike, and statistics are those of the global batch. A memory would be sent in each step.
        return DistributedDataParallel(synchronised(module, device), device_ids=own, broadcast_buffers=False)

    def _round(self, run: _StageRun, steps: range) -> dict[str, float]:
        """Take the steps of one round; returns mean losses, learning rates and speed."""
        sums: dict[str, Tensor] = {}
        images = 0
        begin = ticked = time.perf_counter()
        run.module.train()
        for step in steps:
            for name, value in self._step(run, step).items():
                sums[name] = sums[name] + value if name in sums else value
            images += run.plan.global_size(step)
            now = time.perf_counter()
            if self.worker.rank == 0 and now - ticked > TICK_SECONDS:
                ticked = now
                mean = float(sums["loss"]) / (step - steps.start + 1)
                self.listener.tick(ProgressUpdate(run.stage.name, step + 1, run.total, mean, images / (now - begin)))
        means = {name: float(value) / len(steps) for name, value in sums.items()}  # float() waits for the device
        elapsed = time.perf_counter() - begin
        self.images, self.seconds = self.images + images, self.seconds + elapsed
        if self.worker.rank == 0:
            self.listener.tick(ProgressUpdate(run.stage.name, steps.stop, run.total, means["loss"], images / elapsed))
        self._check_finite(means, run.stage)
        means |= {f"lr_{i}" if i else "lr": group["lr"] for i, group in enumerate(run.optimizer.param_groups)}
        return means | {"images_per_s": images / elapsed, "peak_memory_mib": peak_memory_mib(self.worker.runner.device)}

    def _step(self, run: _StageRun, step: int) -> dict[str, Tensor]:
        """One optimizer step; returns the loss and its parts."""
        factor = run.stage.schedule(Progress(step // run.plan.steps_per_epoch, step / run.total))
        for group, rate in zip(run.optimizer.param_groups, run.base_lr, strict=True):
            group["lr"] = rate * factor
        worker = self.worker
        batch = run.plan.batch(step, seed=worker.seed, stage=run.index, rank=worker.rank, device=worker.runner.device)
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
        dtype = self.worker.runner.autocast
        return torch.autocast(self.worker.runner.device.type, dtype or torch.bfloat16, enabled=dtype is not None)

    def _check_finite(self, means: Mapping[str, float], stage: Stage) -> None:
        broken = sorted(name for name, value in means.items() if not math.isfinite(value))
        if broken:
            raise TrainingError(
                f"stage {stage.name}, round {self.progress.round + 1}: {', '.join(broken)} not finite; "
                "lower the learning rate, or use train.precision fp32"
            )

    def _finish_round(self, metrics: dict[str, float], optimizer: Optimizer | None, stage: Stage, *, last: bool) -> None:
        """Calibrate, validate, keep the best, report, and store a checkpoint."""
        self.progress.round += 1
        due = last or (stage.predicts and self.progress.round % self.validation.every == 0)
        if stage.fit_statistics is not None and (last or (due and self.validation.measure is not None)):
            stage.fit_statistics(self.data)
            take_from_first(self.method)
        if self.worker.rank == 0 and due:
            metrics = metrics | self._validate()
        with TemporaryDirectory(prefix="adjobs-") as temporary:
            folder = None
            if self.worker.rank == 0:
                self.listener.round(Round(self.progress.round, metrics))
                folder = Path(temporary) / "checkpoint"
                checkpoint.write(folder, self.method, optimizer, self.best, self.progress)
            self.checkpoints.save(folder, metrics | {"round": float(self.progress.round)})

    def _validate(self) -> dict[str, float]:
        """Measure on the validation part; the best weights so far are kept whatever the selection rule."""
        if self.validation.measure is None:
            return {}
        measured = {name: value for name, value in self.validation.measure().items() if value is not None}
        value = measured.get(self.validation.selection.metric)
        # Of equals the later: F1 of few images has many equals, and without any alarm it is 0 from the first round on.
        if value is not None and (self.progress.best is None or value >= self.progress.best):
            self.progress.best, self.progress.best_round = value, self.progress.round
            self.best = checkpoint.snapshot(self.method)
        return {f"val/{name}": value for name, value in measured.items()}

    def select(self) -> FitResult:
        """Put the selected weights into the method."""
        speed = self.images / self.seconds if self.seconds else math.nan
        if self.validation.selection.rule == "best" and self.best is not None and self.progress.best_round is not None:
            self.method.load_state_dict(self.best)
            return FitResult(self.progress.best_round, self.progress.round, speed)
        return FitResult(self.progress.round, self.progress.round, speed)


def train_only(module: nn.Module, optimizer: Optimizer) -> None:
    """Train what the optimizer holds and freeze the rest: what never gets a gradient stops DistributedDataParallel."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in held)
