"""The images that can be suggested: read, scored, and without those that repeat an image that is labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adjobs.config.settings import Settings
from adjobs.data.checks.duplicates import find_across_splits
from adjobs.data.walk import content_hash
from adjobs.errors import DataError
from adjobs.labelling.images import ImageSource, find_sources
from adjobs.labelling.model import RankingModel, load_model
from adjobs.labelling.scoring import DescribedImages, Failure, HashedImage, ImageScorer, ScoredImage, hash_sources
from adjobs.parallel import in_threads

MAX_KNOWN = 5000
"""Images of the model's data set that images are compared with, evenly spaced; the contents of all are compared."""


class Duplicate(NamedTuple):
    """An image that is left out, the image that it repeats, and whether that is labelled or a candidate itself."""

    source: ImageSource
    of: str
    is_labelled: bool


@dataclass(frozen=True)
class Candidates:
    """Images to choose from.

    Attributes:
        scored: the images, at least one.
        train: ``(K, D)`` features of the training images; none where these cannot be reached.
        ranking: the model that scored them.
        duplicates: images that repeat a labelled image or another candidate.
        failures: images that cannot be read or scored.
    """

    scored: tuple[ScoredImage, ...]
    train: np.ndarray
    ranking: RankingModel
    duplicates: tuple[Duplicate, ...]
    failures: tuple[Failure, ...]


def gather_candidates(
    model: str | Path, images: Sequence[str | Path], settings: Settings, *, follow_links: bool = False, progress: bool = False
) -> Candidates:
    """Read and score images, without those that repeat a labelled image of the model's data set, by content or nearly.

    Args:
        model: a run id, ``models:/name/version``, ``models:/name@alias``, ``models:/m-…``, or a folder that holds a detector.
        images: files, folders, patterns, ``s3://`` addresses.
        settings: where MLflow and the caches are.
        follow_links: follow links out of folders.
        progress: show bars on a terminal's standard error.

    Raises:
        DataError: there are no images, none can be read, or all are labelled already.
        TrackingError: MLflow does not answer, or there is no such run or model.
        StorageError: it is not a detector, or S3 refuses.
    """
    sources = find_sources(images, settings.cache, follow_links=follow_links)
    ranking = load_model(model, settings)
    hashed, failures = hash_sources(sources, progress)
    candidates, copies = _without_copies(hashed, ranking, progress)
    scorer = ImageScorer(ranking.detector, progress)
    scored, unscored = scorer.score(candidates)
    known = scorer.describe(_evenly(ranking.known.labelled, MAX_KNOWN)) if scored else DescribedImages.empty()
    scored, near_copies = _without_near_duplicates(scored, known, progress)
    duplicates, failures = (*copies, *near_copies), [*failures, *unscored]
    if not scored:
        raise DataError(_nothing_left(len(sources), duplicates, failures))
    train = known.select(set(ranking.known.train)).features
    return Candidates(tuple(scored), train, ranking, duplicates, tuple(failures))


def _without_copies(
    hashed: Sequence[HashedImage], ranking: RankingModel, progress: bool
) -> tuple[list[HashedImage], list[Duplicate]]:
    """Images whose content is neither labelled nor that of an earlier image, and the others."""
    labelled = _digests(ranking.known.labelled, progress)
    first: dict[str, str] = {}
    candidates, duplicates = [], []
    for image in hashed:
        if image.digest in labelled:
            duplicates.append(Duplicate(image.source, str(labelled[image.digest]), is_labelled=True))
        elif image.digest in first:
            duplicates.append(Duplicate(image.source, first[image.digest], is_labelled=False))
        else:
            first[image.digest] = image.source.name
            candidates.append(image)
    return candidates, duplicates


def _digests(paths: Sequence[Path], progress: bool) -> dict[str, Path]:
    """Images by the sha256 of their files, without those that are gone."""
    present = [path for path in paths if path.is_file()]
    digests = in_threads(content_hash, present, text="hashing", progress=progress)
    return dict(zip(digests, present, strict=True))


def _without_near_duplicates(
    scored: list[ScoredImage], known: DescribedImages, progress: bool
) -> tuple[list[ScoredImage], list[Duplicate]]:
    """Images that are nearly the same as no known image, and the others."""
    descriptors = [*(image.descriptor for image in scored), *known.descriptors]
    splits = ["candidates"] * len(scored) + ["known"] * len(known.descriptors)
    groups = [str(i) for i in range(len(descriptors))]
    matches = find_across_splits(descriptors, splits, groups, progress=progress) if known.descriptors else {}
    remaining = [image for i, image in enumerate(scored) if i not in matches]
    duplicates = [
        Duplicate(image.source, str(known.paths[matches[i].image_index - len(scored)]), is_labelled=True)
        for i, image in enumerate(scored)
        if i in matches
    ]
    return remaining, duplicates


def _evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """At most ``count`` of the paths, evenly spaced."""
    return [paths[int(i)] for i in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int))]


def _nothing_left(total: int, duplicates: Sequence[Duplicate], failures: Sequence[Failure]) -> str:
    if failures and not duplicates:
        return f"none of the {total} images can be scored, first: {failures[0].error}"
    first = duplicates[0]
    unreadable = f"; {len(failures)} cannot be scored, first: {failures[0].error}" if failures else ""
    return (
        f"none of the {total} images is left to label: {len(duplicates)} repeat images of the model's data set, such as "
        f"{first.source.name} ({first.of}){unreadable}; give images that are not labelled"
    )
