"""A trained detector on other data."""

from __future__ import annotations

import logging
from pathlib import Path

from adjobs.data.cache.images import open_cache
from adjobs.data.dataset import Dataset, fingerprint
from adjobs.data.image_reading import ImageReading
from adjobs.data.images import find_ranges
from adjobs.data.open import open_dataset
from adjobs.errors import DataError
from adjobs.evaluation.evaluate import predict_split
from adjobs.evaluation.result import EvaluationResult, compute_split_metrics
from adjobs.evaluation.thresholds import Thresholds
from adjobs.inference.torch_detector import TorchDetector

log = logging.getLogger(__name__)


def evaluate_detector(detector: TorchDetector, uri: str, format: str, cache: Path) -> EvaluationResult:
    """Evaluate a detector on all labelled images of a data set, at its own thresholds.

    Args:
        detector: the detector.
        uri: of the data set.
        format: its layout; ``auto`` recognises it.
        cache: folder of fetched and decoded data sets.

    Raises:
        DataError: the data cannot be read, or are those that the detector was trained on.
        ScoreError: the scores are not finite.
    """
    dataset = open_dataset(uri, format, cache=cache)
    digest = fingerprint(dataset)
    manifest = detector.manifest
    if digest == manifest.data_fingerprint:
        raise DataError(f"data '{uri}': the detector was trained on these images; use others, or read the metrics of its run")
    ids = tuple(sample.id for sample in dataset.samples if sample.label != "unlabelled")
    images = open_cache(dataset, digest, manifest.image_size, cache, reading=manifest.image_reading)
    _warn_of_other_values(uri, dataset, manifest.image_reading)
    thresholds = Thresholds(manifest.threshold, manifest.pixel_threshold)
    timed = predict_split(detector.method, images, dataset, ids, detector.device_config)
    metrics = compute_split_metrics(timed.scores, thresholds.image.value, thresholds.pixel_value, dataset)
    return EvaluationResult({"test": metrics}, thresholds, timed.ms_per_image)


def _warn_of_other_values(uri: str, dataset: Dataset, reading: ImageReading) -> None:
    """Log how many images differ in bit depth or range of values from the training images."""
    warnings = list(filter(None, map(reading.warning, find_ranges([sample.image for sample in dataset.samples]))))
    if warnings:
        log.warning("data '%s': %d of %d images, the first %s", uri, len(warnings), len(dataset.samples), warnings[0])
