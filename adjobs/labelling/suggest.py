"""Rank unlabelled images by what labelling them would teach a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from adjobs.config.settings import Settings
from adjobs.errors import JobError
from adjobs.inference.regions import Region
from adjobs.labelling import criteria
from adjobs.labelling.candidates import Candidates, Duplicate, gather_candidates
from adjobs.labelling.features import standardise
from adjobs.labelling.images import ImageSource
from adjobs.labelling.scoring import Failure, ScoredImage
from adjobs.labelling.selection import select_diverse

_NEAR, _NOVEL = 0.5, 0.9  # from which a criterion is named as a reason


@dataclass(frozen=True)
class SuggestOptions:
    """How images are chosen; weights are 0 or more.

    Attributes:
        count: of images, at most; 1 or more.
        near_threshold: weight of being near the threshold.
        novelty: weight of being unlike the training images.
        diversity: weight of differing from the images that are suggested before; 0: they may show the same.
        follow_links: follow links out of folders.
    """

    count: int = 20
    near_threshold: float = 1.0
    novelty: float = 0.5
    diversity: float = 1.0
    follow_links: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise JobError(f"count: got {self.count}; must be 1 or more")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                raise JobError(f"{field.name.replace('_', '-')}: got {value}; must be a number of 0 or more")


@dataclass(frozen=True)
class Suggestion:
    """An image to label.

    Attributes:
        source: where the image is.
        digest: sha256 of its file.
        size: width and height in pixels.
        score: of the detector.
        decision: of the detector.
        regions: boxes around what the detector took for defects, in pixels; empty on images that it decided to be normal.
        near_threshold: in (0, 1], see :func:`adjobs.labelling.criteria.nearness`.
        novelty: in [0, 1], see :func:`adjobs.labelling.criteria.novelty`.
        reason: why it is suggested, in words.
    """

    source: ImageSource
    digest: str
    size: tuple[int, int]
    score: float
    decision: Literal["normal", "anomalous"]
    regions: tuple[Region, ...]
    near_threshold: float
    novelty: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        plain = ("digest", "size", "score", "decision", "near_threshold", "novelty", "reason")
        return {
            "image": self.source.name,
            **{key: getattr(self, key) for key in plain},
            "regions": [list(region) for region in self.regions],
        }


@dataclass(frozen=True)
class SuggestResult:
    """Images to label, the most instructive first.

    Attributes:
        suggestions: in the order in which they were chosen.
        model: that ranked them.
        threshold: of the detector.
        candidates: number of images that they were chosen from.
        duplicates: images that repeat a labelled image or another candidate.
        failures: images that cannot be read or scored.
        n_known: number of training images that candidates were compared with; 0: only with each other.
        defects: types of defects in the model's data set, the most frequent first.
    """

    suggestions: tuple[Suggestion, ...]
    model: str
    threshold: float
    candidates: int
    duplicates: tuple[Duplicate, ...]
    failures: tuple[Failure, ...]
    n_known: int
    defects: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "model": self.model,
            "threshold": self.threshold,
            "candidates": self.candidates,
            "training_images": self.n_known,
            "suggestions": [suggestion.to_dict() for suggestion in self.suggestions],
            "duplicates": [{"image": d.source.name, "of": d.of, "labelled": d.is_labelled} for d in self.duplicates],
            "failed": [{"image": failure.source.name, "error": failure.error} for failure in self.failures],
        }


def suggest(
    model: str | Path,
    images: Sequence[str | Path],
    settings: Settings,
    options: SuggestOptions | None = None,
    *,
    progress: bool = False,
) -> SuggestResult:
    """Choose images to label.

    Images that repeat a labelled image of the model's data set, by content or nearly, are left out. The same arguments give the
    same result.

    Args:
        model: a run id, ``models:/name/version``, ``models:/name@alias``, ``models:/m-…``, or a folder that holds a detector.
        images: files, folders, patterns, ``s3://`` addresses.
        settings: where MLflow and the caches are.
        options: how they are chosen.
        progress: show bars on a terminal's standard error.

    Raises:
        DataError: there are no images, none can be read, or all are labelled already.
        TrackingError: MLflow does not answer, or there is no such run or model.
        StorageError: it is not a detector, or S3 refuses.
    """
    options = options or SuggestOptions()
    return choose(gather_candidates(model, images, settings, follow_links=options.follow_links, progress=progress), options)


def choose(candidates: Candidates, options: SuggestOptions) -> SuggestResult:
    """Choose among images that have been scored."""
    ranking, scored, train = candidates.ranking, candidates.scored, candidates.train
    raw = np.stack([image.features for image in scored])
    reference = train if len(train) else raw
    features = standardise(raw, reference)
    scores = np.array([image.prediction.score for image in scored])
    near = criteria.nearness(scores, ranking.detector.threshold, ranking.validation)
    novel = criteria.novelty(features, standardise(train, reference) if len(train) else features[:0])
    weight = options.near_threshold + options.novelty
    values = (options.near_threshold * near + options.novelty * novel) / weight if weight else np.ones(len(scored))
    order = select_diverse(values, features, min(options.count, len(scored)), options.diversity)
    return SuggestResult(
        suggestions=tuple(_suggestion(scored[i], float(near[i]), float(novel[i]), bool(len(train))) for i in order),
        model=ranking.name,
        threshold=ranking.detector.threshold,
        candidates=len(scored),
        duplicates=candidates.duplicates,
        failures=candidates.failures,
        n_known=len(train),
        defects=ranking.known.defects,
    )


def _suggestion(image: ScoredImage, near: float, novel: float, has_train: bool) -> Suggestion:
    prediction = image.prediction
    scores = f"score {prediction.score:.4g}, threshold {prediction.threshold:.4g}"
    others = "training images" if has_train else "other images"
    reasons = [f"near the threshold: {scores}"] if near >= _NEAR else []
    reasons += [f"unlike the {others}"] if novel >= _NOVEL else []
    reasons = reasons or [f"unlike the images suggested before it, {prediction.decision}: {scores}"]
    return Suggestion(
        source=image.source,
        digest=image.digest,
        size=image.size,
        score=prediction.score,
        decision=prediction.decision,
        regions=prediction.regions,
        near_threshold=near,
        novelty=novel,
        reason="; ".join(reasons),
    )
