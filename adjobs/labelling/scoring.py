"""Read, score and describe images, batch by batch, so that of each only little is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from adjobs.data.checks.duplicates import Descriptor, DetailFile, describe
from adjobs.data.images import DecodedImage, stretch
from adjobs.data.walk import content_hash
from adjobs.errors import AdjobsError, DataError
from adjobs.evaluation.predictions import EVAL_BATCH
from adjobs.inference.detector import ImagePrediction
from adjobs.inference.torch_detector import TorchDetector
from adjobs.labelling.features import FeatureExtractor
from adjobs.labelling.images import ImageSource
from adjobs.parallel import in_threads

Item = TypeVar("Item")


class HashedImage(NamedTuple):
    """An image with the sha256 of its file."""

    source: ImageSource
    digest: str


class ScoredImage(NamedTuple):
    """What is kept of an image.

    Attributes:
        source: where it is.
        digest: sha256 of its file.
        size: width and height of the upright image.
        prediction: of the detector, without its arrays.
        features: ``(D,)``, see :class:`adjobs.labelling.features.FeatureExtractor`.
        descriptor: for near duplicates.
    """

    source: ImageSource
    digest: str
    size: tuple[int, int]
    prediction: ImagePrediction
    features: np.ndarray
    descriptor: Descriptor


class DescribedImages(NamedTuple):
    """Images that are known: ``features`` ``(N, D)`` and N descriptors, of those that can be read."""

    paths: list[Path]
    features: np.ndarray
    descriptors: list[Descriptor]

    @classmethod
    def empty(cls) -> DescribedImages:
        """No images."""
        return cls([], np.empty((0, 0), dtype=np.float32), [])

    def select(self, paths: Collection[Path]) -> DescribedImages:
        """Those of the images that are among ``paths``."""
        chosen = [i for i, path in enumerate(self.paths) if path in paths]
        return DescribedImages([self.paths[i] for i in chosen], self.features[chosen], [self.descriptors[i] for i in chosen])


class Failure(NamedTuple):
    """An image that cannot be used, and why."""

    source: ImageSource
    error: str


def hash_sources(sources: Sequence[ImageSource], progress: bool) -> tuple[list[HashedImage], list[Failure]]:
    """The images whose files can be read, and the others."""

    def digest(source: ImageSource) -> HashedImage | Failure:
        try:
            return HashedImage(source, content_hash(source.path))
        except DataError as error:
            return Failure(source, str(error))

    results = in_threads(digest, sources, text="hashing", progress=progress)
    hashed = [result for result in results if isinstance(result, HashedImage)]
    return hashed, [result for result in results if isinstance(result, Failure)]


class ImageScorer:
    """Scores and describes images.

    Args:
        detector: the detector.
        progress: show bars on a terminal's standard error.
    """

    def __init__(self, detector: TorchDetector, progress: bool = False) -> None:
        self._detector, self._progress = detector, progress
        self._features, self._details = FeatureExtractor(detector), DetailFile()

    def score(self, images: Sequence[HashedImage]) -> tuple[list[ScoredImage], list[Failure]]:
        """Score images; those that cannot be decoded or scored are failures."""
        self._detector.expect(len(images))
        scored: list[ScoredImage] = []
        failures: list[Failure] = []
        for batch in self._batches(images, "scoring"):
            for result in self._score_batch(batch):
                if isinstance(result, Failure):
                    failures.append(result)
                else:
                    scored.append(result)
        return scored, failures

    def describe(self, paths: Sequence[Path]) -> DescribedImages:
        """Describe images that are known; those that cannot be decoded are left out."""
        described = DescribedImages.empty()
        features = []
        for batch in self._batches(paths, "describing"):
            decoded = in_threads(self._read, batch, text="reading")
            readable = [(path, image) for path, image in zip(batch, decoded, strict=True) if isinstance(image, DecodedImage)]
            if readable:
                features.append(self._features.extract(self._stack([image for _, image in readable])))
            described.paths.extend(path for path, _ in readable)
            described.descriptors.extend(self._details.store(describe(image.image)) for _, image in readable)
        return described._replace(features=np.concatenate(features)) if features else described

    def _score_batch(self, batch: Sequence[HashedImage]) -> Iterator[ScoredImage | Failure]:
        decoded = in_threads(lambda image: self._read(image.source.path), batch, text="reading")
        readable = []
        for image, result in zip(batch, decoded, strict=True):
            if isinstance(result, DecodedImage):
                readable.append((image, result))
            else:
                yield Failure(image.source, result)
        try:
            yield from self._predict(readable)
        except AdjobsError as error:
            if len(readable) == 1:
                yield Failure(readable[0][0].source, str(error))
            else:  # the fault of one of them
                for pair in readable:
                    yield from self._predict_alone(pair)

    def _predict_alone(self, pair: tuple[HashedImage, DecodedImage]) -> list[ScoredImage | Failure]:
        try:
            return [*self._predict([pair])]
        except AdjobsError as error:
            return [Failure(pair[0].source, str(error))]

    def _predict(self, readable: Sequence[tuple[HashedImage, DecodedImage]]) -> list[ScoredImage]:
        if not readable:
            return []
        predictions = self._detector.predict_batch(
            [image for _, image in readable], [hashed.source.name for hashed, _ in readable]
        )
        features = self._features.extract(self._stack([image for _, image in readable]))
        return [
            ScoredImage(
                source=hashed.source,
                digest=hashed.digest,
                size=image.image.size,
                prediction=replace(prediction, anomaly_map=None, defect_mask=None, region_mask=None),
                features=of_image,
                descriptor=self._details.store(describe(image.image)),
            )
            for (hashed, image), prediction, of_image in zip(readable, predictions, features, strict=True)
        ]

    def _read(self, path: Path) -> DecodedImage | str:
        """The image, or why it cannot be read."""
        try:
            return self._detector.read_image(path)
        except DataError as error:
            return str(error)

    def _stack(self, images: Sequence[DecodedImage]) -> np.ndarray:
        return np.stack([stretch(image.image, self._detector.manifest.image_size) for image in images])

    def _batches(self, items: Sequence[Item], text: str) -> Iterator[Sequence[Item]]:
        with tqdm(total=len(items), desc=text, unit="img", disable=None if self._progress else True) as bar:
            for start in range(0, len(items), EVAL_BATCH):
                batch = items[start : start + EVAL_BATCH]
                yield batch
                bar.update(len(batch))
