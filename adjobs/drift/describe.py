"""Scores and descriptors of image files, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from adjobs.data.images import DecodedImage, stretch
from adjobs.drift.descriptors import FeatureExtractor, simple_statistics
from adjobs.drift.images import ImageFile
from adjobs.drift.verdict import ImageTable
from adjobs.errors import AdjobsError, printable
from adjobs.evaluation.evaluate import EVAL_BATCH, PredictionArrays, ScoreError, check_finite
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


def _describe_batch(detector: Detector, files: Iterable[ImageFile], extractor: FeatureExtractor | None) -> Iterator[_Row | str]:
    """A row for each image that can be read and scored, the cause for each other one."""

    def read(file: ImageFile) -> tuple[ImageFile, DecodedImage, Floats] | str:
        try:
            image = detector.read_image(file.path)
        except AdjobsError as error:
            return printable(str(error).replace(str(file.path), file.name))
        return file, image, simple_statistics(image.image)

    outcomes = in_threads(read, list(files), text="reading")
    yield from (outcome for outcome in outcomes if isinstance(outcome, str))
    readable = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    if not readable:
        return
    images = [image.image for _, image, _ in readable]
    predicted = detector.predict_arrays(np.stack([stretch(image, detector.manifest.image_size) for image in images]))
    features = None if extractor is None else extractor(images)
    for index, (file, image, statistics) in enumerate(readable):
        try:
            check_finite(PredictionArrays(predicted.score[index : index + 1], None, {}), [file.name])
        except ScoreError as error:
            yield str(error)
            continue
        warning = detector.manifest.image_reading.warning(image.range)
        row_features = None if features is None else features[index]
        yield _Row(file, float(predicted.score[index]), statistics, row_features, warning is not None)
