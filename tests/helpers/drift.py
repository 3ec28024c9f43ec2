"""Runs without MLflow that no training has made: a small untrained detector with the scores that it gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.data.dataset import Dataset, fingerprint
from adjobs.data.image_reading import DEFAULT_READING
from adjobs.data.images import load_rgb
from adjobs.data.open import open_dataset
from adjobs.data.splits.assignment import make_split
from adjobs.inference.detector_folder import save
from adjobs.inference.torch_detector import TorchDetector
from adjobs.tracking.folder import folder_uri
from adjobs.tracking.layout import DatasetInfo, RunRef
from adjobs.tracking.runs import create_run, open_writer
from adjobs.tracking.writer import RunWriter
from adjobs.types import ImageScores, JobStatus
from tests.helpers.detectors import SIDE, make_manifest
from tests.helpers.drawing import save as save_image
from tests.helpers.drawing import texture
from tests.helpers.jobs import resolved_job
from tests.helpers.tiny import tiny_method

EVAL_BATCH = 16


def draw_normal(folder: Path, count: int, seed: int, factor: float = 1.0) -> Path:
    """Normal images, with all pixel values times a factor."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        pixels = texture(SIDE, generator) * factor
        save_image(folder / f"{number:03}.png", pixels.clip(0, 255).astype(np.uint8))
    return folder


def folder_run(settings: Settings, data: Path, temporary: Path, protocol: str = "auto") -> RunRef:
    """A finished run on a data set, with a detector that has scored its validation and test split."""
    job = resolved_job(data, **({} if protocol == "auto" else {"protocol": protocol}))
    return log_run(folder_uri(settings.home), job, open_dataset(str(data), cache=settings.cache), temporary)


def log_run(uri: str, job: JobConfig, dataset: Dataset, temporary: Path) -> RunRef:
    """A finished run at a tracking URI."""
    split = make_split(dataset, job.data.protocol)
    info = DatasetInfo(fingerprint(dataset), dataset.format, {}, split)
    ref = create_run(uri, job, info, str(temporary / "checkpoints"), {})
    writer = open_writer(ref)
    method = tiny_method("cdo")
    save(temporary / "detector", method, make_manifest("cdo", method.config.model_dump(mode="json"), threshold=1e6))
    detector = TorchDetector.load(temporary / "detector", "cpu")
    for name in ("val", "test"):
        _log_scores(writer, detector, dataset, getattr(split, name), name)
    writer.set_tags({"model": writer.log_model(temporary / "detector", None)})
    writer.close(JobStatus.FINISHED)
    return ref


def _log_scores(writer: RunWriter, detector: TorchDetector, dataset: Dataset, ids: tuple[str, ...], split: str) -> None:
    samples = {sample.id: sample for sample in dataset.samples}
    images = np.stack([load_rgb(samples[name].image, SIDE, DEFAULT_READING) for name in ids])
    batches = [images[start : start + EVAL_BATCH] for start in range(0, len(ids), EVAL_BATCH)]
    score = np.concatenate([detector.predict_arrays(batch).score for batch in batches])
    labels = np.array([int(samples[name].label == "anomalous") for name in ids])
    writer.log_scores(ImageScores(ids, labels, score, ("",) * len(ids), None, None), detector.threshold, split)
