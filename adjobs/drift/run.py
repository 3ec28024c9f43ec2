"""Measure drift: a model, recent images, a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from adjobs.backbones import SMALLEST, pip_name
from adjobs.config.settings import Settings
from adjobs.drift.describe import DescribedImages, describe_images
from adjobs.drift.descriptors import FeatureExtractor, has_features
from adjobs.drift.images import RecentImages, open_recent_images
from adjobs.drift.options import DriftOptions
from adjobs.drift.outliers import most_different
from adjobs.drift.page import DriftPage, open_output
from adjobs.drift.reference import Reference, open_model, read_reference
from adjobs.drift.result import DifferentImage, DriftResult
from adjobs.drift.separation import MIN_IMAGES
from adjobs.drift.verdict import ImageTable, compare_samples
from adjobs.errors import DataError
from adjobs.inference.detector import Detector
from adjobs.metrics.intervals import Estimate, proportion
from adjobs.tracking.runs import find_run, open_writer

__all__ = ["DriftOptions", "DriftResult", "log_result", "measure_drift"]

PACKAGE = pip_name(SMALLEST)
"""With the weights of the network for features."""

MAX_DIFFERENT = 24
"""Images in the list of those that differ most."""

_DEFAULTS = DriftOptions()


def measure_drift(
    model: str, images: str | Sequence[str], settings: Settings, options: DriftOptions = _DEFAULTS, out: Path | None = None
) -> DriftResult:
    """Compare recent images with normal images that the model was not fitted to.

    Args:
        model: a run id, ``models:/name/version``, ``models:/name@alias`` or ``models:/m-…``, or the folder of a run's detector.
        images: as for :func:`adjobs.drift.images.open_recent_images`; no labels are needed.
        settings: where MLflow, S3 and the cache are.
        options: levels, allowances and limits.
        out: folder for a page and the result as JSON; None writes nothing.

    Raises:
        DataError: fewer than 2 recent images can be read.
        StorageError: S3 or the disk refuses, or ``out`` holds other files.
        TrackingError: MLflow does not answer, there is no such model, or its run stored no scores.
    """
    sources = [images] if isinstance(images, str) else list(images)
    of_recent, of_reference, of_tests = (np.random.default_rng([options.seed, stream]) for stream in range(3))
    folder = None if out is None else open_output(out)
    with (
        open_model(model, settings, options.device) as opened,
        open_recent_images(sources, options.limit, of_recent, follow_links=options.follow_links) as recent,
    ):
        reference = read_reference(opened.run, options.splits, options.limit, of_reference, settings)
        extractor = FeatureExtractor(opened.detector.device_config.device) if reference.files and has_features() else None
        described = _describe_recent(opened.detector, recent, extractor)
        old, notes = _describe_reference(opened.detector, reference, extractor)
        verdict = compare_samples(old.table, described.table, options, of_tests)
        result = DriftResult(
            model=model,
            run_id=opened.run.ref.run_id,
            threshold=opened.detector.threshold,
            verdict=verdict,
            reference_alarms=_alarms(old, opened.detector),
            recent_alarms=_alarms(described, opened.detector),
            n_reference=len(old.table.scores),
            n_recent=len(described.files),
            n_available=recent.available,
            unreadable=tuple(described.unreadable),
            different=_most_different(old, described),
            notes=(*notes, *_notes(recent, described, old, extractor)),
            options=options,
        )
        if folder is not None:
            DriftPage(result, old, described, opened.detector.manifest.image_reading).write(folder)
    return result


def log_result(result: DriftResult, settings: Settings) -> str:
    """Store a result with the run of its model; returns the name of the artifact."""
    name = f"drift/{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.json"
    open_writer(find_run(settings.tracking_uri, settings.home, result.run_id)).log_json(result.to_dict(), name)
    return name


def _describe_recent(detector: Detector, recent: RecentImages, extractor: FeatureExtractor | None) -> DescribedImages:
    described = describe_images(detector, recent.images, extractor)
    if len(described.files) < 2:
        causes = f"; {described.unreadable[0]}" if described.unreadable else ""
        raise DataError(
            f"only {len(described.files)} of {len(recent.images)} recent images can be used, at least 2 are needed{causes}"
        )
    return described


def _describe_reference(
    detector: Detector, reference: Reference, extractor: FeatureExtractor | None
) -> tuple[DescribedImages, list[str]]:
    """Descriptors of the reference: its scores alone where the images are gone or changed, and what to say of that."""
    reason = reference.reason
    if reference.files is not None:
        described = describe_images(detector, reference.files, extractor)
        if not described.unreadable and reference.has_same_scores(described.table.scores):
            return described, []
        cause = described.unreadable[0] if described.unreadable else "their scores are not those that the run stored"
        reason = f"the reference images have changed since the training, {cause}"
    scores_only = DescribedImages([], ImageTable(reference.scores), [], 0)
    return scores_only, [f"only the stored scores of the reference are compared, since its images cannot be used: {reason}"]


def _alarms(images: DescribedImages, detector: Detector) -> Estimate:
    return proportion(int((images.table.scores >= detector.threshold).sum()), len(images.table.scores))


def _most_different(old: DescribedImages, recent: DescribedImages) -> tuple[DifferentImage, ...]:
    return tuple(most_different(old.table, recent.table, [file.name for file in recent.files], MAX_DIFFERENT))


def _notes(
    recent: RecentImages, described: DescribedImages, old: DescribedImages, extractor: FeatureExtractor | None
) -> Iterator[str]:
    if recent.available > len(recent.images):
        yield f"{len(recent.images)} of {recent.available} recent images were drawn at random"
    if recent.outside_links:
        yield f"{recent.outside_links} links lead out of the folders and were not followed"
    if described.unreadable:
        yield f"{len(described.unreadable)} recent images could not be used, first {described.unreadable[0]}"
    if described.other_depths:
        yield f"{described.other_depths} recent images differ in bit depth or range of values from the training images"
    if old.table.statistics is not None and extractor is None:
        yield f"no features were compared: the package {PACKAGE} is not installed"
    elif old.table.statistics is not None and min(len(old.table.scores), len(described.files)) < MIN_IMAGES:
        yield f"no features were compared: at least {MIN_IMAGES} images of each kind are needed"
