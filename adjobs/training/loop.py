"""The training loop: plain PyTorch, no Ray. One call trains all stages of a method on one worker.

A stage is cut into rounds: an epoch, or ``ROUND_STEPS`` steps of a stage whose length is given in steps. After each round the
method is validated, a checkpoint is stored and the metrics are reported. All randomness of a step comes from (seed, stage, step,
rank), so that a run resumed from a checkpoint repeats itself exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

import psutil
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from adjobs.data.loaders import Plan, TrainingData
from adjobs.errors import AdjobsError
from adjobs.evaluate import Runner
from adjobs.methods.contract import Progress, Selection, Stage
from adjobs.training import checkpoint
from adjobs.training.checkpoint import Checkpoints

ROUND_STEPS = 100
TICK_SECONDS = 0.5


class TrainingError(AdjobsError):
    """The training itself went wrong: it diverged."""


@dataclass(frozen=True)
class Worker:
    """This worker among its peers."""

    runner: Runner
    rank: int = 0
    world: int = 1
    seed: int = 0


class Tick(NamedTuple):
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

    def tick(self, tick: Tick) -> None:
        """Every half second or so."""
        ...

    def round(self, finished: Round) -> None:
        """After every round, before its checkpoint is stored."""
        ...


class Trained(NamedTuple):
    """Outcome: which round became the model, and the mean training speed of this process's part of the run."""

    selected_round: int
    images_per_s: float


def fit(
    method: nn.Module,
    data: TrainingData,
    worker: Worker,
    *,
    selection: Selection,
    validate: Callable[[], Mapping[str, float | None]] | None,
    validate_every: int,
    checkpoints: Checkpoints,
    listener: Listener,
) -> Trained:
    """Train all stages, from the last checkpoint if there is one, and leave the selected weights in ``method``.

    Args:
        method: on the worker's device.
        data: the training part.
        worker: device, rank, seed.
        selection: which round's weights to keep.
        validate: image measures on the validation part; rank 0 calls it; None where there is nothing to measure on.
        validate_every: rounds between two validations; the last round is always validated.
        checkpoints: where the state goes after each round.
        listener: told of progress on rank 0.

    Raises:
        TrainingError: the loss is not finite.
        DataError: the data lack what a stage asks for.
    """
    run = _Run(method, data, worker, selection, validate, validate_every, checkpoints, listener)
    stages = list(method.stages())  # type: ignore[operator]
    optimizer_state = run.restore()
    for index in range(run.progress.stage, len(stages)):
        run.train_stage(stages[index], index, len(stages), optimizer_state)
        optimizer_state = None
    return run.select()


class _Run:
    """State of one call of ``fit``."""

    def __init__(  # noqa: PLR0913 - the arguments of fit
        self,
        method: nn.Module,
        data: TrainingData,
        worker: Worker,
        selection: Selection,
        validate: Callable[[], Mapping[str, float | None]] | None,
        validate_every: int,
        checkpoints: Checkpoints,
        listener: Listener,
    ) -> None:
        self.method = method
        self.data = data
        self.worker = worker
        self.selection = selection
        self.validate = validate
        self.validate_every = validate_every
        self.checkpoints = checkpoints
        self.listener = listener
        self.progress = checkpoint.Progress()
        self.best: dict[str, Tensor] | None = None
        self.images, self.seconds = 0, 0.0

    def restore(self) -> dict[str, Any] | None:
        """Take up the last checkpoint; returns the optimizer's state when a stage was under way."""
        folder = self.checkpoints.load()
        if folder is None:
            return None
        restored = checkpoint.read(folder, self.worker.runner.device)
        self.method.load_state_dict(restored.method)
        self.best, self.progress = restored.best, restored.progress
        return restored.optimizer

    def train_stage(self, stage: Stage, index: int, n_stages: int, optimizer_state: dict[str, Any] | None) -> None:
        """Train one stage from the step that was reached."""
        prefix = f"{stage.name}/" if n_stages > 1 else ""
        if stage.prepare is not None and stage.name not in self.progress.prepared:
            stage.prepare(self.data)
            self.progress.prepared.append(stage.name)
        if stage.optimizer is not None:
            plan = self.data.plan(stage.mix, self.worker.world)
            optimizer = stage.optimizer()
            base = [group["lr"] for group in optimizer.param_groups]
            if optimizer_state is not None:
                optimizer.load_state_dict(optimizer_state)
            module = self._distributed(stage.module)
            total = stage.steps or stage.epochs * plan.steps_per_epoch
            length = min(ROUND_STEPS, total) if stage.steps else plan.steps_per_epoch
            while self.progress.step < total:
                until = min(total, (self.progress.step // length + 1) * length)
                metrics = self._round(stage, module, optimizer, base, plan, range(self.progress.step, until), total, index)
                self.progress.step = until
                final = until == total
                if final:
                    self.progress.stage, self.progress.step = index + 1, 0
                self._finish_round(metrics, prefix, None if final else optimizer, last=final and index + 1 == n_stages)
        self.progress.stage, self.progress.step = index + 1, 0

    def _distributed(self, module: nn.Module) -> nn.Module:
        if self.worker.world == 1:
            return module
        if self.worker.runner.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
            return DistributedDataParallel(module, device_ids=[self.worker.runner.device.index or 0])
        return DistributedDataParallel(module)

    def _round(  # noqa: PLR0913 - one round of one stage needs all of it
        self,
        stage: Stage,
        module: nn.Module,
        optimizer: Optimizer,
        base: list[float],
        plan: Plan,
        steps: range,
        total: int,
        index: int,
    ) -> dict[str, float]:
        """Take the steps of one round; returns mean losses, learning rates and speed."""
        device = self.worker.runner.device
        sums: dict[str, Tensor] = {}
        images, begin, ticked = 0, time.perf_counter(), time.perf_counter()
        module.train()
        for step in steps:
            factor = stage.schedule(Progress(step // plan.steps_per_epoch, step / total))
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * factor
            batch = plan.batch(step, seed=self.worker.seed, stage=index, rank=self.worker.rank, device=device)
            # Dropout inside networks of other libraries draws from the global generator.
            torch.manual_seed(batch.generator.initial_seed())
            with self._autocast():
                loss = module(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            if stage.clip_norm is not None:
                nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], stage.clip_norm)
            optimizer.step()
            for name, value in {"loss": loss.total.detach(), **loss.parts}.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + value
            images += plan.global_size(step)
            if self.worker.rank == 0 and time.perf_counter() - ticked > TICK_SECONDS:
                ticked = time.perf_counter()
                count = step - steps.start + 1
                self.listener.tick(Tick(stage.name, step + 1, total, float(sums["loss"]) / count, images / (ticked - begin)))
        means = {name: float(value) / len(steps) for name, value in sums.items()}  # float() waits for the device
        elapsed = time.perf_counter() - begin
        self.images, self.seconds = self.images + images, self.seconds + elapsed
        self._check_finite(means, stage)
        means |= {f"lr_{i}" if i else "lr": group["lr"] for i, group in enumerate(optimizer.param_groups)}
        return means | {"images_per_s": images / elapsed, "peak_memory_mb": peak_memory_mb(device)}

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

    def _finish_round(self, metrics: dict[str, float], prefix: str, optimizer: Optimizer | None, *, last: bool) -> None:
        """Validate, keep the best, report, and store a checkpoint."""
        self.progress.round += 1
        number = self.progress.round
        found: dict[str, float] = {f"train/{prefix}{name}": value for name, value in metrics.items()}
        if self.worker.rank == 0 and self.validate is not None and (last or number % self.validate_every == 0):
            measured = {name: value for name, value in self.validate().items() if value is not None}
            found |= {f"val/{name}": value for name, value in measured.items()}
            value = measured.get(self.selection.metric)
            if value is not None and (self.progress.best is None or value > self.progress.best):
                self.progress.best, self.progress.best_round = value, number
                self.best = checkpoint.snapshot(self.method)
        with TemporaryDirectory(prefix="adjobs-") as temporary:
            folder = None
            if self.worker.rank == 0:
                self.listener.round(Round(number, found))
                folder = Path(temporary) / "checkpoint"
                checkpoint.write(folder, self.method, optimizer, self.best, self.progress)
            self.checkpoints.save(folder, found)

    def select(self) -> Trained:
        """Put the selected weights into the method."""
        speed = self.images / self.seconds if self.seconds else math.nan
        if self.selection.rule == "best" and self.best is not None and self.progress.best_round is not None:
            self.method.load_state_dict(self.best)
            return Trained(self.progress.best_round, speed)
        return Trained(self.progress.round, speed)


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory: allocated on the GPU, or resident in this process now, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20


def choose_runner(precision: str, device: torch.device) -> Runner:
    """Resolve ``auto``, ``fp32`` or ``bf16`` for a device: bf16 is automatic only on GPUs that compute in it."""
    automatic = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return Runner(device, torch.bfloat16 if precision == "bf16" or (precision == "auto" and automatic) else None)


