"""What one worker does: data, method, training, and on rank 0 what the run keeps of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.data.batches import TrainingData
from adjobs.data.cache.images import ImageCache, open_cache
from adjobs.data.dataset import Dataset, fingerprint
from adjobs.data.open import open_dataset
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import ClusterError
from adjobs.evaluation import evaluate
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.inference import detector
from adjobs.jobs.finalize import CachedEvaluator, finalize_run
from adjobs.tracking.logged_model import download
from adjobs.tracking.run import RunWriter
from adjobs.training.checkpoint import Checkpoints
from adjobs.training.device import resolve_precision
from adjobs.training.loop import FitResult, ProgressUpdate, Round, Validation, WorkerContext, fit


@dataclass(frozen=True)
class Task:
    """All that a worker is told.

    Attributes:
        job: the resolved job.
        split: which sample is in which part.
        fingerprint: of the data that the launcher saw; the worker must see the same.
        cache: folder of fetched and decoded data on the worker's node.
        tracking_uri: MLflow.
        run_id: the open run.
        excluded: samples left out for their problems.
        shares: whether stages are taken over from other runs that have trained them alike.
    """

    job: JobConfig
    split: SplitAssignment
    fingerprint: str
    cache: Path
    tracking_uri: str
    run_id: str
    excluded: tuple[str, ...] = ()
    reuse_stages: bool = False


class _Listener:
    """Passes ticks on and writes rounds into MLflow."""

    def __init__(self, recorder: RunWriter, on_progress: Callable[[ProgressUpdate], None]) -> None:
        self._recorder, self._on_progress = recorder, on_progress

    def tick(self, tick: ProgressUpdate) -> None:
        self._on_progress(tick)

    def round(self, finished: Round) -> None:
        self._recorder.metrics(finished.metrics, finished.number)


Finalizer = Callable[[JobConfig, str, SplitAssignment, CachedEvaluator, FitResult, RunWriter], dict[str, Any]]


def run(
    task: Task,
    *,
    device: torch.device,
    rank: int,
    world_size: int,
    checkpoints: Checkpoints,
    on_progress: Callable[[ProgressUpdate], None],
    finish: Finalizer = finalize_run,
) -> dict[str, Any]:
    """Do a whole job on this worker.

    Args:
        task: what to do.
        device: to do it on.
        rank: of this worker.
        world: how many workers there are.
        checkpoints: where the state goes after each round.
        tell: called with the progress on rank 0.
        finish: what rank 0 does with the trained method; the same arguments as :func:`adjobs.jobs.finalize.finalize_run`.

    Returns:
        On rank 0 the summary that ``adjobs train`` prints, elsewhere nothing.

    Raises:
        ClusterError: this node sees other data than the launcher.
        DataError: the data lack what the method needs.
    """
    job, spec = task.job, methods.spec(task.job.method)
    index, cache = _open_data(task)
    worker = WorkerContext(resolve_precision(job.train.precision, device), rank, world_size, job.train.seed, task.reuse_stages)
    seed_everything(job.train.seed)
    method = methods.load(job.method).build(job.method_config(), image_size=job.data.image_size, seed=job.train.seed)
    method.to(device).to(memory_format=torch.channels_last)
    recorder = RunWriter(task.tracking_uri, task.run_id) if rank == 0 else None

    evaluator = CachedEvaluator(method, cache, index, DeviceConfig(device))  # in float32, as the logged model will decide

    def validate() -> Mapping[str, float | None]:
        return evaluate.measure_images(evaluator.evaluate(task.split.val).scores, spec.native_threshold)

    def begin() -> None:
        if spec.warm_start is not None and job.params[spec.warm_start.param] is not None:
            method.load_pretrained(load_logged_weights(task.tracking_uri, job.params[spec.warm_start.param]))  # type: ignore[operator]

    trained = fit(
        method,
        TrainingData(cache, index, task.split.train, device, label_detail=job.label_detail, block=job.data.block_size),
        worker,
        validation=Validation(spec.selection, validate if _has_both(index, task.split.val) else None, job.train.validate_every),
        checkpoints=checkpoints,
        listener=_Listener(recorder, on_progress) if recorder else _Silent(),
        begin=begin,
    )
    if not trained.is_last:
        evaluator.invalidate()
    if recorder is None:
        return {}
    return finish(job, task.fingerprint, task.split, evaluator, trained, recorder)


def load_logged_weights(tracking_uri: str, model: str) -> dict[str, torch.Tensor]:
    """What a logged model has learnt.

    Raises:
        TrackingError: MLflow is down, or there is no such run or model.
        StorageError: it is no detector.
    """
    with TemporaryDirectory(prefix="adjobs-") as folder:
        return detector.read_weights(download(tracking_uri, model, Path(folder)))


def seed_everything(seed: int) -> None:
    """Seed the global generators for code of others; ours draws from generators that it is given."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class _Silent:
    def tick(self, tick: ProgressUpdate) -> None:
        """Only rank 0 speaks."""

    def round(self, finished: Round) -> None:
        """Only rank 0 speaks."""


def _open_data(task: Task) -> tuple[Dataset, ImageCache]:
    """Fetch, check and decode the data on this node; what is there already is used."""
    data = task.job.data
    index = open_dataset(data.uri, data.format, cache=task.cache)
    left_out = set(task.excluded)
    index = replace(index, samples=tuple(sample for sample in index.samples if sample.id not in left_out))
    found = fingerprint(index)
    if found != task.fingerprint:
        raise ClusterError(
            f"data '{data.uri}': this worker sees fingerprint {found[:16]}, the job was started with {task.fingerprint[:16]}; "
            "the data changed or the path means another folder on this node: use s3://, or start the job anew"
        )
    return index, open_cache(index, found, data.image_size, task.cache, progress=False)


def _has_both(index: Dataset, part: tuple[str, ...]) -> bool:
    names = set(part)
    labels = {sample.label for sample in index.samples if sample.id in names}
    return {"normal", "anomalous"} <= labels
