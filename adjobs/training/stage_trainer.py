"""The optimizer steps of one stage. All randomness of a step comes from (seed, stage, step, rank)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from adjobs import devices
from adjobs.data.batches import BatchPlan, step_seed
from adjobs.data.packing import PackedBatch
from adjobs.data.prefetch import prefetch
from adjobs.errors import AdjobsError
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.methods.contract import Progress, Stage
from adjobs.nn.norm import synchronise_batch_norm
from adjobs.training.agreement import agreed_errors
from adjobs.training.device import peak_memory_mib
from adjobs.training.optimizers import can_be_captured, set_learning_rates, use_fused
from adjobs.training.progress import ProgressUpdate, peak_resident_mib
from adjobs.training.steps import CapturedSteps, OptimizerStep

INTERVAL_STEPS = 100
PROGRESS_SECONDS = 0.5


class TrainingError(AdjobsError):
    """The training itself went wrong: it diverged."""


@dataclass(frozen=True)
class WorkerContext:
    """This worker among its peers.

    Attributes:
        device_config: device and precision.
        rank: of this worker.
        world_size: number of workers.
        seed: of the training.
        reuse_stages: load stages that an equal run on this machine has already trained.
        max_seconds: time limit of the training; None: no limit.
        max_world_size: number of workers that the batches are made for, a multiple of ``world_size``; None: that.
        capture: capture whole steps on a GPU.
    """

    device_config: DeviceConfig
    rank: int = 0
    world_size: int = 1
    seed: int = 0
    reuse_stages: bool = False
    max_seconds: float | None = None
    max_world_size: int | None = None
    capture: bool = True


class IntervalSteps(NamedTuple):
    """The steps of one evaluation interval.

    Attributes:
        metrics: mean losses, learning rates, speed and memory by name.
        images: that all workers together trained on.
        seconds: that the steps took.
        stop: the step after the last one; earlier than planned if the time was over.
    """

    metrics: dict[str, float]
    images: int
    seconds: float
    stop: int


class StageTrainer:
    """Takes the optimizer steps of one stage.

    Args:
        stage: what to train; only what its optimizer holds is trained.
        index: of the stage within the training.
        batches: of the stage.
        worker: device, rank, seed.
        optimizer_state: of a stage that is resumed; None: from its start.
    """

    def __init__(
        self,
        stage: Stage,
        index: int,
        batches: BatchPlan,
        worker: WorkerContext,
        optimizer_state: dict[str, Any] | None,
    ) -> None:
        assert stage.optimizer is not None
        self.stage, self.index = stage, index
        self.optimizer = stage.optimizer()
        self.total = stage.steps or stage.epochs * batches.steps_per_epoch
        self._batches, self._worker = batches, worker
        self._base_lr = [group["lr"] for group in self.optimizer.param_groups]  # before a schedule has moved them
        if optimizer_state is not None:
            self.optimizer.load_state_dict(optimizer_state)
        train_only(stage.module, self.optimizer)
        self._module = _distributed(stage.module, worker)
        device = worker.device_config.device
        # Work that several workers share is launched as it comes: their exchange is not captured.
        may_capture = worker.capture and worker.world_size == 1 and stage.capturable and can_be_captured(self.optimizer)
        capturer = devices.capturer(device) if may_capture else None
        use_fused(self.optimizer, device, captured=capturer is not None)
        self._step = OptimizerStep(stage, self._module, self.optimizer, batches.data.packer, worker.device_config)
        self._take_step: Callable[[PackedBatch], None] = self._step
        if capturer is not None:
            self._take_step = CapturedSteps(self._step, self.optimizer, capturer, stage.name)

    @property
    def interval_length(self) -> int:
        """Steps in an evaluation interval: an epoch, or a fixed number for a stage whose length is given in steps."""
        return min(INTERVAL_STEPS, self.total) if self.stage.steps else self._batches.steps_per_epoch

    def train(
        self, steps: range, interval: int, on_progress: Callable[[ProgressUpdate], None], is_time_over: Callable[[], bool]
    ) -> IntervalSteps:
        """Take some steps, at least one.

        Args:
            steps: their numbers within the stage.
            interval: number of the evaluation interval that they make, for errors.
            on_progress: called on rank 0.
            is_time_over: called after every step, on all workers.

        Raises:
            TrainingError: the loss is not finite.
        """
        stop, images = steps.stop, 0
        started_at = reported_at = time.perf_counter()
        self._module.train()
        self._step.reset_sums()
        with closing(prefetch(self._pack, steps, self._worker.device_config.device)) as batches:
            for step, packed in batches:
                self._prepare(step)
                self._take_step(packed)
                images += self._batches.global_size(step)
                now = time.perf_counter()
                if self._worker.rank == 0 and now - reported_at > PROGRESS_SECONDS:
                    reported_at = now
                    mean = self._step.sums()["loss"] / (step - steps.start + 1)
                    on_progress(self._progress(step + 1, mean, images / (now - started_at)))
                if is_time_over():
                    stop = step + 1
                    break
        means = {name: value / (stop - steps.start) for name, value in self._step.sums().items()}  # waits for the device
        seconds = time.perf_counter() - started_at
        if self._worker.rank == 0:
            on_progress(self._progress(stop, means["loss"], images / seconds))
        with agreed_errors(self._worker.device_config.device):
            self._check_finite(means, interval)
        rates = {f"lr_{i}" if i else "lr": float(group["lr"]) for i, group in enumerate(self.optimizer.param_groups)}
        resources = {"images_per_s": images / seconds, "peak_memory_mib": peak_memory_mib(self._worker.device_config.device)}
        return IntervalSteps(means | rates | resources, images, seconds, stop)

    def _progress(self, done: int, loss: float, images_per_s: float) -> ProgressUpdate:
        workers, device = self._worker.world_size, self._worker.device_config.device
        gpu_mib = workers * peak_memory_mib(device) if devices.is_gpu(device) else 0.0
        return ProgressUpdate(self.stage.name, done, self.total, loss, images_per_s, workers * peak_resident_mib(), gpu_mib)

    def _pack(self, step: int) -> PackedBatch:
        """The batch of a step; called on a thread."""
        return self._batches.pack(step, seed=self._worker.seed, stage=self.index, rank=self._worker.rank)

    def _prepare(self, step: int) -> None:
        """Set the learning rates and the seeds of a step."""
        factor = self.stage.schedule(Progress(step // self._batches.steps_per_epoch, step / self.total))
        set_learning_rates(self.optimizer, [rate * factor for rate in self._base_lr])
        self._step.seed(step_seed(self._worker.seed, self.index, step, self._worker.rank))

    def _check_finite(self, means: Mapping[str, float], interval: int) -> None:
        not_finite = sorted(name for name, value in means.items() if not math.isfinite(value))
        if not_finite:
            raise TrainingError(
                f"stage {self.stage.name}, interval {interval}: {', '.join(not_finite)} not finite; "
                "lower the learning rate, or use train.precision fp32"
            )


def train_only(module: nn.Module, optimizer: Optimizer) -> None:
    """Train what the optimizer holds and freeze the rest: what never gets a gradient stops DistributedDataParallel."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in held)


def _distributed(module: nn.Module, worker: WorkerContext) -> nn.Module:
    """The module as it is trained: with gradients and batch statistics of all workers, if there are several."""
    if worker.world_size == 1:
        return module
    device = worker.device_config.device
    device_ids = [device.index or 0] if devices.is_gpu(device) else None
    # Buffers agree: they start equal, and statistics are those of the global batch. A memory bank would be sent in each step.
    return DistributedDataParallel(synchronise_batch_norm(module, device), device_ids=device_ids, broadcast_buffers=False)
