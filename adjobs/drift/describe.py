"""Scores and descriptors of image files, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from adjobs.data.images import stretch
from adjobs.drift.descriptors import FEATURE_SIZE, FeatureExtractor, simple_statistics
from adjobs.drift.images import ImageFile
from adjobs.drift.verdict import ImageTable
from adjobs.errors import AdjobsError, printable
from adjobs.evaluation.predictions import EVAL_BATCH, PredictionArrays, ScoreError, check_finite
from adjobs.inference.detector import Detector
from adjobs.metrics.inputs import Floats
from adjobs.parallel import in_threads


class DescribedImages(NamedTuple):
    """Descriptors of the images that could be read.

    Attributes:
        files: those images.
        table: their descriptors, in the same order.
        unreadable: the cause for each of the others.
        other_depths: number of images that differ in bit depth or range of values from the training images.
    """

    files: list[ImageFile]
    table: ImageTable
    unreadable: list[str]
    other_depths: int


class _Pixels(NamedTuple):
    """An image as the detector and the network for features take it, and what is known of its full size."""

    file: ImageFile
    for_detector: np.ndarray
    for_features: np.ndarray | None
    statistics: Floats
    has_other_depth: bool


class _Row(NamedTuple):
    file: ImageFile
    score: float
    statistics: Floats
    features: Floats | None
    has_other_depth: bool


def describe_images(detector: Detector, files: Sequence[ImageFile], extractor: FeatureExtractor | None) -> DescribedImages:
    """Score and describe images; an image that cannot be read or scored is left out.

    Args:
        detector: the detector.
        files: the images.
        extractor: of features; None to leave them out.
    """
    rows: list[_Row] = []
    unreadable: list[str] = []
    for start in range(0, len(files), EVAL_BATCH):
        for outcome in _describe_batch(detector, files[start : start + EVAL_BATCH], extractor):
            if isinstance(outcome, _Row):
                rows.append(outcome)
            else:
                unreadable.append(outcome)
    features = [row.features for row in rows if row.features is not None]
    table = ImageTable(
        scores=np.array([row.score for row in rows], dtype=np.float64),
        statistics=np.stack([row.statistics for row in rows]) if rows else None,
        features=np.stack(features) if features else None,
    )
    return DescribedImages([row.file for row in rows], table, unreadable, sum(row.has_other_depth for row in rows))


def _describe_batch(detector: Detector, files: Sequence[ImageFile], extractor: FeatureExtractor | None) -> Iterator[_Row | str]:
    """A row for each image that can be read and scored, the cause for each other one."""

    def read(file: ImageFile) -> _Pixels | str:
        try:
            decoded = detector.read_image(file.path)
        except AdjobsError as error:
            return printable(str(error).replace(str(file.path), file.name))
        image, warning = decoded.image, detector.manifest.image_reading.warning(decoded.range)
        for_features = None if extractor is None else stretch(image, FEATURE_SIZE)
        pixels = stretch(image, detector.manifest.image_size)
        return _Pixels(file, pixels, for_features, simple_statistics(image), warning is not None)

    outcomes = in_threads(read, files, text="reading")  # of full size are only as many images at a time as there are threads
    yield from (outcome for outcome in outcomes if isinstance(outcome, str))
    readable = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    if not readable:
        return
    predicted = detector.predict_arrays(np.stack([pixels.for_detector for pixels in readable]))
    for_features = [pixels.for_features for pixels in readable if pixels.for_features is not None]
    features = None if extractor is None else extractor(np.stack(for_features))
    for index, pixels in enumerate(readable):
        try:
            check_finite(PredictionArrays(predicted.score[index : index + 1], None, {}), [pixels.file.name])
        except ScoreError as error:
            yield str(error)
            continue
        row_features = None if features is None else features[index]
        yield _Row(pixels.file, float(predicted.score[index]), pixels.statistics, row_features, pixels.has_other_depth)
