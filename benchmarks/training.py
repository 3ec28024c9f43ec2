"""Data sets as jobs prepare them, and our methods trained on them as ordinary local runs without MLflow."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from neighbours.memory import peak_mib
from torch import nn

import adjobs
from adjobs import methods
from adjobs.config.environment import load_settings
from adjobs.config.job import JobConfig
from adjobs.config.resolve import override, resolve
from adjobs.data.cache.images import ImageCache, open_cache
from adjobs.data.dataset import Dataset
from adjobs.data.image_reading import ImageReading
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.evaluation.evaluate import TimedScores, predict_split
from adjobs.inference.torch_detector import TorchDetector
from adjobs.jobs.data import prepare_data
from adjobs.jobs.prepare import prepare
from adjobs.jobs.result import TrainResult
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import open_reader
from adjobs.types import ImageScores

ONLY_AT_THE_END = 10**9  # intervals between two validations


@dataclass(frozen=True)
class BenchmarkData:
    """A data set with its split.

    Attributes:
        uri: where it is.
        dataset: without the images that have problems.
        fingerprint: of its images and labels.
        split: which sample is in which split.
        n_invalid: number of images with problems.
        reading: how its images are read.
    """

    uri: str
    dataset: Dataset
    fingerprint: str
    split: SplitAssignment
    n_invalid: int
    reading: ImageReading

    def open_cache(self, size: int) -> ImageCache:
        """The decoded images, squares of ``size`` pixels."""
        return open_cache(self.dataset, self.fingerprint, size, load_settings().cache, reading=self.reading)

    def labels(self, split: str) -> list[str]:
        """Labels of the images of a split, in its order."""
        labels = {sample.id: sample.label for sample in self.dataset.samples}
        return [labels[name] for name in getattr(self.split, split)]

    def count(self, split: str, label: str) -> int:
        """Number of images of a split with this label."""
        return self.labels(split).count(label)


@dataclass(frozen=True)
class LocalRun:
    """A method that was trained here.

    Attributes:
        result: of the job.
        detector: with the weights of the selected checkpoint.
        data: that it was trained on.
        cache: the decoded images.
    """

    result: TrainResult
    detector: TorchDetector
    data: BenchmarkData
    cache: ImageCache

    @property
    def device(self) -> torch.device:
        """The device that trained and predicts."""
        return self.detector.device_config.device

    @property
    def seconds(self) -> float:
        """Seconds of the job without the final evaluation, on data that were checked and decoded before."""
        return self.result.seconds - self.result.finalize_seconds

    def scores(self, split: str) -> ImageScores:
        """The image scores of a split, as the run keeps them."""
        return open_reader(RunRef(self.result.tracking_uri, self.result.run_id)).scores(split)

    def predict(self, split: str, method: nn.Module | None = None) -> TimedScores:
        """Predict a split with the trained method, or with another one on the same device."""
        ids = getattr(self.data.split, split)
        return predict_split(method or self.detector.method, self.cache, self.data.dataset, ids, self.detector.device_config)


def benchmark_job(
    document: Mapping[str, Any], overrides: Iterable[str] = (), params: Mapping[str, Any] | None = None
) -> JobConfig:
    """The resolved job of a run: without MLflow, and without the images that have problems.

    Where the last checkpoint becomes the model, validation would only cost time, so it is done once, at the end.

    Args:
        document: as in a job file.
        overrides: parameters of the method such as ``"lr=0.001"``, values in YAML; they take precedence over the document's.
        params: further parameters, which take precedence over all others.
    """
    changed = override(dict(document), [f"params.{setting}" for setting in overrides])
    job = resolve({**changed, "params": {**changed.get("params", {}), **(params or {})}})
    train = job.train
    if methods.spec(job.method).selection.rule == "last":
        train = train.model_copy(update={"validate_every": ONLY_AT_THE_END})
    data = job.data.model_copy(update={"skip_invalid": True})
    return job.model_copy(update={"data": data, "train": train, "track": None})


def open_data(job: JobConfig) -> BenchmarkData:
    """Open, check and split the data of a job, as ``adjobs train`` does."""
    prepared = prepare_data(job, load_settings())
    invalid = {problem.sample for problem in prepared.problems if problem.severity == "error"}
    return BenchmarkData(job.data.uri, prepared.dataset, prepared.fingerprint, prepared.split, len(invalid), prepared.reading)


def train_locally(job: JobConfig, data: BenchmarkData) -> LocalRun:
    """Train a job in this process and load its detector."""
    # Checks, decoded images and imports are not part of the run's seconds.
    job = prepare(job, load_settings()).job
    cache = data.open_cache(job.data.image_size)
    methods.load(job.method).build(job.method_config(), image_size=job.data.image_size, seed=job.train.seed)
    result = adjobs.train(job)
    return LocalRun(result, adjobs.load_detector(result.model), data, cache)


def keep_detector(run: LocalRun, folder: Path) -> None:
    """Copy the detector to a folder that later runs start from; the run itself is temporary."""
    unfinished = folder.with_suffix(".unfinished")
    for leftover in (unfinished, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(run.result.model, unfinished)
    unfinished.rename(folder)


def default_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def latency(method: Any, size: int, batch: int, device: torch.device, repeats: int = 5) -> float:
    """Median milliseconds per image over some batches after the first, from floats in memory to score and anomaly map."""
    images, milliseconds = torch.rand(batch, 3, size, size, device=device), []
    method.eval()
    for _ in range(repeats + 1):
        started_at = time.perf_counter()
        float(method.predict(images).score[0])  # waits for the device
        milliseconds.append(1000 * (time.perf_counter() - started_at) / batch)
    return float(np.median(milliseconds[1:]))


def peak_memory(device: torch.device) -> float:
    """Peak of the GPU, or of this process, in MiB."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_mib()


def describe_training_images(normal: int, anomalous: int = 0) -> str:
    """What a method was trained on, such as ``571 normal + 80 anomalous``."""
    return f"{normal} normal" + (f" + {anomalous} anomalous" if anomalous else "")
