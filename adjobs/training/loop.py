"""The training loop: plain PyTorch, no Ray. One call trains all stages of a method on one worker.

A stage is cut into evaluation intervals: an epoch, or ``INTERVAL_STEPS`` steps of a stage whose length is given in steps. After
each interval the method is validated, a checkpoint is stored and the metrics are reported. A training that is resumed from a
checkpoint repeats itself exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from torch import Tensor

from adjobs.data.batches import BatchPlan, TrainingData
from adjobs.methods.contract import Selection, Stage
from adjobs.methods.method import Method
from adjobs.nn.distributed import broadcast_buffers
from adjobs.training import checkpoint
from adjobs.training.agreement import agreed_errors
from adjobs.training.callbacks import Callback, IntervalResult
from adjobs.training.checkpoint import Checkpoints, TrainingProgress
from adjobs.training.stage_cache import train_or_load
from adjobs.training.stage_trainer import StageTrainer, WorkerContext
from adjobs.training.time_limit import TimeLimit
from adjobs.waits import waiting_for


class FitResult(NamedTuple):
    """How a training ended.

    Attributes:
        selected_checkpoint: number of the checkpoint that became the model.
        checkpoints: how many there were.
        images_per_s: mean speed of all workers together in what this call trained; nan when nothing was left to train.
        seconds: that the training took with its validations, before a resume included.
        cut_stages: stages that the time limit ended, such as ``distil 120/300``, with the steps taken and planned.
    """

    selected_checkpoint: int
    checkpoints: int
    images_per_s: float
    seconds: float
    cut_stages: tuple[str, ...] = ()

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
        worker: device, rank, seed, time limit.
        validation: how checkpoints are compared.
        checkpoints: where the state goes after each interval.
        callback: called with progress and metrics on rank 0.
        on_train_start: called before the first step of a fresh training, not of one that is resumed from a checkpoint.

    Raises:
        TrainingError: the loss is not finite.
        DataError: the data lack what a stage asks for.
        AgreedError: one of these, where there are several workers; all of them raise it.
    """
    training = _Training(method, data, worker, validation, checkpoints, callback)
    stages = method.stages()
    training.n_stages = len(stages)
    with agreed_errors(worker.device_config.device):
        for stage in stages:
            if stage.optimizer is not None:
                training.plan_batches(stage)  # a batch that does not fit is refused before any work
        optimizer_state = training.restore(on_train_start)
    for index in range(training.progress.stage, len(stages)):
        training.time_limit.start_stage(max(1, sum(stage.optimizer is not None for stage in stages[index:])))
        training.train_stage(stages[index], index, optimizer_state, last=index + 1 == len(stages), several=len(stages) > 1)
        optimizer_state = None
    return training.select()


class _Training:
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
        self.progress = TrainingProgress()
        self.best: dict[str, Tensor] | None = None
        self.n_stages = 1
        self.images, self.seconds = 0, 0.0
        self._announced: set[str] = set()
        self.time_limit = TimeLimit(worker.max_seconds, worker.device_config.device)

    def restore(self, on_train_start: Callable[[], None]) -> dict[str, Any] | None:
        """Load the last checkpoint, or start afresh; returns the optimizer's state when a stage was under way."""
        with self.checkpoints.load() as folder:
            restored = None if folder is None else checkpoint.read(folder)
        if restored is None:
            on_train_start()
            return None
        self.method.load_state_dict(restored.method)
        self.best, self.progress = restored.best, restored.progress
        self.time_limit.resume(self.progress.seconds)
        return restored.optimizer

    def _waiting(self, text: str) -> AbstractContextManager[None]:
        """A block whose work is announced if it takes long, but not again after each interval."""
        if text in self._announced:
            return nullcontext()
        self._announced.add(text)
        return waiting_for(text)

    def plan_batches(self, stage: Stage) -> BatchPlan:
        """The batches of a stage that trains."""
        worker = self.worker
        return self.data.plan(stage.mix, worker.world_size, stage.size_params, max_world_size=worker.max_world_size)

    def train_stage(self, stage: Stage, index: int, optimizer_state: dict[str, Any] | None, *, last: bool, several: bool) -> None:
        """Train one stage from the step that was reached."""
        self._prepare(stage)
        if stage.optimizer is None:
            self.progress.stage, self.progress.step = index + 1, 0
            self._finish_interval({}, stage, 1, last=last)
            return
        trainer = StageTrainer(stage, index, self.plan_batches(stage), self.worker, optimizer_state)
        prefix = f"train/{stage.name}/" if several else "train/"
        if self._can_reuse(stage, last=last):
            device = [str(field) for field in self.worker.device_config]
            seed_key = {"index": index, "seed": self.worker.seed, "device": device}
            if not train_or_load(self.data, stage, seed_key, lambda: self._train_intervals(trainer, prefix, last=last)):
                self._skip_to_end(trainer)
        else:
            self._train_intervals(trainer, prefix, last=last)

    def _prepare(self, stage: Stage) -> None:
        """What comes before the first step of a stage, and before the first one after a resume."""
        if stage.prepare is not None and stage.name not in self.progress.prepared:
            with agreed_errors(self.worker.device_config.device), self._waiting(f"preparing stage {stage.name}"):
                stage.prepare(self.data)
            broadcast_buffers(self.method)
            self.progress.prepared.append(stage.name)
        if stage.on_stage_start is not None:
            with agreed_errors(self.worker.device_config.device), self._waiting(f"preparing the images of stage {stage.name}"):
                stage.on_stage_start(self.data)

    def _can_reuse(self, stage: Stage, *, last: bool) -> bool:
        """Whether a stage of another job may stand in: nothing of it has been trained here, and no checkpoint of it could win."""
        worker = self.worker
        shareable = worker.reuse_stages and worker.world_size == 1 and worker.max_seconds is None and stage.depends_on is not None
        could_win = last or (stage.predicts and self.validation.selection.rule == "best")
        return shareable and self.progress.step == 0 and not could_win

    def _train_intervals(self, trainer: StageTrainer, prefix: str, *, last: bool) -> None:
        """Train the remaining intervals of a stage."""
        while self.progress.stage == trainer.index:
            number = self.progress.step // trainer.interval_length + 1  # of this interval within its stage
            until = min(trainer.total, number * trainer.interval_length)
            taken = trainer.train(
                range(self.progress.step, until),
                self.progress.interval + 1,
                self.callback.on_progress,
                self.time_limit.is_reached,
            )
            self.images, self.seconds = self.images + taken.images, self.seconds + taken.seconds
            self.progress.step = taken.stop
            final = taken.stop == trainer.total or taken.stop < until
            if final:
                self._end_stage(trainer)
            prefixed = {f"{prefix}{name}": value for name, value in taken.metrics.items()}
            self._finish_interval(prefixed, trainer.stage, number, last=final and last, trainer=trainer)

    def _end_stage(self, trainer: StageTrainer) -> None:
        if self.progress.step < trainer.total:
            self.progress.cut_stages.append(f"{trainer.stage.name} {self.progress.step}/{trainer.total}")
        self.progress.stage, self.progress.step = trainer.index + 1, 0

    def _skip_to_end(self, trainer: StageTrainer) -> None:
        """Continue after a stage that another job has trained; intervals are counted as if it had been trained here."""
        self.progress.stage, self.progress.step = trainer.index + 1, 0
        intervals = math.ceil(trainer.total / trainer.interval_length)
        self.progress.interval += intervals - 1
        self._finish_interval({}, trainer.stage, intervals, last=False)

    def _finish_interval(
        self, metrics: dict[str, float], stage: Stage, number: int, *, last: bool, trainer: StageTrainer | None = None
    ) -> None:
        """Fit statistics, validate, keep the best, report, and store a checkpoint; ``number`` counts within the stage."""
        self.progress.interval += 1
        due = last or (stage.predicts and number % self.validation.every == 0)
        if stage.fit_statistics is not None and (last or (due and self.validation.evaluate is not None)):
            with agreed_errors(self.worker.device_config.device), self._waiting("fitting statistics to the training images"):
                stage.fit_statistics(self.data)
            broadcast_buffers(self.method)
        if self.worker.rank == 0 and due:
            started_at = self.time_limit.seconds
            with self._waiting("validating"):
                metrics = metrics | self._validate()
            self.time_limit.reserve(self.time_limit.seconds - started_at)
        is_running = trainer is not None and self.progress.stage == trainer.index
        # Here and not after the checkpoint: a training that is resumed from it must end where this one does.
        if trainer and is_running and due and self.validation.evaluate is not None and self.time_limit.is_reached():
            self._end_stage(trainer)
            is_running = False
        self.progress.seconds = self.time_limit.seconds
        with TemporaryDirectory(prefix="adjobs-") as temporary:
            folder = None
            if self.worker.rank == 0:
                self.callback.on_interval_end(IntervalResult(self.progress.interval, metrics))
                folder = Path(temporary) / "checkpoint"
                optimizer = trainer.optimizer if trainer is not None and is_running else None
                checkpoint.write(folder, self.method, optimizer, self.best, self.progress)
            report = {"interval": float(self.progress.interval), "is_last": float(self.progress.stage == self.n_stages)}
            with self._waiting("storing the checkpoint"):
                self.checkpoints.save(folder, metrics | report)

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
        took, cut_stages = self.progress.seconds, tuple(self.progress.cut_stages)
        if self.validation.selection.rule == "best" and self.best is not None and self.progress.best_interval is not None:
            self.method.load_state_dict(self.best)
            return FitResult(self.progress.best_interval, self.progress.interval, speed, took, cut_stages)
        return FitResult(self.progress.interval, self.progress.interval, speed, took, cut_stages)
