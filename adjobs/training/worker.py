"""What one worker does: data, method, training, and on rank 0 what becomes of the trained method."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar

import numpy as np
import torch

from adjobs import devices, methods
from adjobs.config.job import JobConfig
from adjobs.data.batches import TrainingData
from adjobs.data.cache.images import ImageCache, open_cache
from adjobs.data.dataset import Dataset, fingerprint
from adjobs.data.image_reading import DEFAULT_READING, ImageReading
from adjobs.data.open import open_dataset
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import ClusterError, JobError
from adjobs.evaluation.evaluate import CachedEvaluator, DeviceConfig
from adjobs.evaluation.result import compute_image_metrics
from adjobs.inference.detector_folder import read_weights
from adjobs.methods.method import Method
from adjobs.storage.fence import Fence
from adjobs.tracking.layout import RunRef
from adjobs.tracking.logged_model import download
from adjobs.tracking.runs import open_writer
from adjobs.tracking.writer import RunWriter
from adjobs.training.agreement import agreed_errors
from adjobs.training.callbacks import Callback, IntervalResult, SilentCallback
from adjobs.training.checkpoint import Checkpoints, FencedCheckpoints
from adjobs.training.device import resolve_precision
from adjobs.training.loop import FitResult, Validation, fit
from adjobs.training.progress import ProgressUpdate
from adjobs.training.stage_trainer import WorkerContext
from adjobs.waits import waiting_for

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Task:
    """All that a worker needs to know.

    Attributes:
        job: the resolved job.
        split: which sample is in which split.
        fingerprint: of the data that the launcher saw; the worker must see the same.
        cache: folder of fetched and decoded data on the worker's node.
        run: the open run.
        tracking_uri: of MLflow, from which models to start with are fetched.
        excluded: ids of samples that are left out because they are invalid.
        reading: how images of more than 8 bits are read.
        reuse_stages: load stages that an equal run on this machine has already trained.
        fence: keeps this attempt of a queued job from writing checkpoints and models when a later one has begun.
    """

    job: JobConfig
    split: SplitAssignment
    fingerprint: str
    cache: Path
    run: RunRef
    tracking_uri: str
    excluded: tuple[str, ...] = ()
    reading: ImageReading = DEFAULT_READING
    reuse_stages: bool = False
    fence: Fence | None = None


@dataclass(frozen=True)
class FinishedTraining:
    """A trained method with all that is needed to make something of it.

    Attributes:
        job: the resolved job.
        fingerprint: of the data.
        reading: how its images are read.
        split: which sample is in which split.
        evaluator: predicts with the method, whose weights are the selected ones.
        fit: how the training ended.
        writer: of the open run.
        fence: of the task.
    """

    job: JobConfig
    fingerprint: str
    reading: ImageReading
    split: SplitAssignment
    evaluator: CachedEvaluator
    fit: FitResult
    writer: RunWriter
    fence: Fence | None = None


@dataclass(frozen=True)
class WorkerSetup(Generic[Outcome]):
    """What a worker needs beside its task.

    Attributes:
        device: that trains.
        checkpoints: where the state goes after each evaluation interval.
        on_progress: called with the progress on rank 0.
        finalize: what rank 0 does with the trained method.
        rank: of this worker.
        world_size: number of workers.
    """

    device: torch.device
    checkpoints: Checkpoints
    on_progress: Callable[[ProgressUpdate], None]
    finalize: Callable[[FinishedTraining], Outcome]
    rank: int = 0
    world_size: int = 1


class _RunCallback:
    """Passes progress on and writes metrics into the run."""

    def __init__(self, writer: RunWriter, on_progress: Callable[[ProgressUpdate], None]) -> None:
        self._writer, self._on_progress = writer, on_progress

    def on_progress(self, update: ProgressUpdate) -> None:
        self._on_progress(update)

    def on_interval_end(self, result: IntervalResult) -> None:
        self._writer.log_metrics(result.metrics, result.number)


def run_worker(task: Task, setup: WorkerSetup[Outcome]) -> Outcome | None:
    """Do a whole job on this worker.

    Args:
        task: what to do.
        setup: what else it needs.

    Returns:
        On rank 0 what ``setup.finalize`` makes of the trained method, elsewhere None.

    Raises:
        ClusterError: this node sees other data than the launcher.
        DataError: the data lack what the method needs.
        AgreedError: such an error, where there are several workers; all of them raise it.
    """
    job, spec, device = task.job, methods.spec(task.job.method), setup.device
    with agreed_errors(device):
        dataset, cache = _open_data(task)
        seed_everything(job.train.seed)
        with waiting_for(f"building {job.method} with its pretrained weights"):
            method = methods.load(job.method).build(job.method_config(), image_size=job.data.image_size, seed=job.train.seed)
    method.to(device).to(memory_format=torch.channels_last)
    writer = open_writer(task.run) if setup.rank == 0 else None
    evaluator = CachedEvaluator(method, cache, dataset, DeviceConfig(device))  # in float32, as the logged model will decide

    def evaluate_val() -> Mapping[str, float | None]:
        return compute_image_metrics(evaluator.evaluate(task.split.val).scores, spec.native_threshold)

    callback: Callback = SilentCallback() if writer is None else _RunCallback(writer, setup.on_progress)
    precision = resolve_precision(job.train.precision, device)
    devices.set_tf32(job.train.precision != "fp32")
    data = TrainingData(cache, dataset, task.split.train, device, label_detail=job.label_detail, block=job.data.block_size)
    data.packer.make_resident(job.train.gpu_cache)
    result = fit(
        method,
        data,
        WorkerContext(
            precision,
            setup.rank,
            setup.world_size,
            job.train.seed,
            task.reuse_stages and job.train.start_from is None,  # stages that are kept started with their seed
            job.train.max_seconds,
            job.train.max_workers,
            job.train.compile == "auto",
        ),
        validation=Validation(
            spec.selection, evaluate_val if _has_both_labels(dataset, task.split.val) else None, job.train.validate_every
        ),
        checkpoints=setup.checkpoints if task.fence is None else FencedCheckpoints(setup.checkpoints, task.fence, device),
        callback=callback,
        on_train_start=lambda: _load_pretrained(task, method),
    )
    if not result.is_last:
        evaluator.invalidate()
    if writer is None:
        return None
    return setup.finalize(
        FinishedTraining(job, task.fingerprint, task.reading, task.split, evaluator, result, writer, task.fence)
    )


def _load_pretrained(task: Task, method: Method) -> None:
    """Start with another run's weights, where the job names one."""
    with waiting_for("fetching the weights to start with"):
        _load_named_weights(task, method)


def _load_named_weights(task: Task, method: Method) -> None:
    if task.job.train.start_from is not None:
        load_weights(method, load_logged_weights(task.tracking_uri, task.job.train.start_from))
    warm_start = methods.spec(task.job.method).warm_start
    if warm_start is not None and task.job.params[warm_start.param] is not None:
        method.load_pretrained(load_logged_weights(task.tracking_uri, task.job.params[warm_start.param]))


def load_weights(method: Method, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into a method; what has another shape there depends on the training images, and is computed again.

    Raises:
        JobError: a parameter is missing, or has another shape.
    """
    parameters = {name for name, _ in method.named_parameters()}
    for name, tensor in method.state_dict().items():
        stored = weights.get(name)
        if stored is not None and stored.shape == tensor.shape:
            tensor.copy_(stored)
        elif name in parameters:
            shape = "is missing" if stored is None else f"has shape {tuple(stored.shape)}"
            raise JobError(
                f"train.start_from: {name} {shape}, must have {tuple(tensor.shape)}; use a run of this version of adjobs"
            )


def load_logged_weights(tracking_uri: str, model: str) -> dict[str, torch.Tensor]:
    """The weights of a logged model.

    Raises:
        TrackingError: MLflow is down, or there is no such run or model.
        StorageError: it is not a detector.
    """
    with TemporaryDirectory(prefix="adjobs-") as folder:
        return read_weights(download(tracking_uri, model, Path(folder)))


def seed_everything(seed: int) -> None:
    """Seed the global generators for other libraries' code; ours draws from generators that are passed in."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _open_data(task: Task) -> tuple[Dataset, ImageCache]:
    """Fetch, check and decode the data on this node; what is there already is used."""
    data = task.job.data
    dataset = open_dataset(data.uri, data.format, cache=task.cache, options=data.read_options)
    excluded = set(task.excluded)
    dataset = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.id not in excluded))
    seen = fingerprint(dataset, progress=True)
    if seen != task.fingerprint:
        raise ClusterError(
            f"data '{data.uri}': this worker sees fingerprint {seen[:16]}, the job was started with {task.fingerprint[:16]}; "
            "the data changed, or the path means another folder on this node: use s3://, or restart the job"
        )
    return dataset, open_cache(dataset, seen, data.image_size, task.cache, reading=task.reading)


def _has_both_labels(dataset: Dataset, split: tuple[str, ...]) -> bool:
    ids = set(split)
    return {"normal", "anomalous"} <= {sample.label for sample in dataset.samples if sample.id in ids}
