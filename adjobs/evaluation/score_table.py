"""Scores of two models on the same images, checked and joined by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adjobs.errors import DataError, shown
from adjobs.metrics.inputs import Bools, Floats, check_image_scores
from adjobs.types import ImageScores


@dataclass(frozen=True)
class ScoreTable:
    """One model's scores.

    Attributes:
        ids: N names of images, each once.
        labels: ``(N,)``, 0 normal, 1 anomalous.
        scores: ``(N,)``, finite, higher is more anomalous.
        threshold: the model's own, for images: ``score >= threshold`` is an alarm.
        groups: N names of the parts that the images show, if several images show one; None: each image is independent.
    """

    ids: Sequence[str]
    labels: ArrayLike
    scores: ArrayLike
    threshold: float
    groups: Sequence[str] | None = None

    @classmethod
    def from_image_scores(cls, scores: ImageScores, threshold: float) -> ScoreTable:
        """The table of an evaluated split."""
        return cls(scores.ids, scores.labels, scores.score, threshold, scores.groups)


@dataclass(frozen=True)
class PairedScores:
    """Two models' scores of the same independent units: images, or parts where several images show one.

    Attributes:
        names: of the images and of the parts.
        truth: ``(U,)`` True for anomalous units.
        champion: ``(U,)`` scores.
        challenger: ``(U,)`` scores.
        champion_alarms: ``(U,)`` decisions.
        challenger_alarms: ``(U,)`` decisions.
        unit: "images" or "parts".
    """

    names: frozenset[str]
    truth: Bools
    champion: Floats
    challenger: Floats
    champion_alarms: Bools
    challenger_alarms: Bools
    unit: str


def pair_scores(champion: ScoreTable, challenger: ScoreTable, name: str) -> PairedScores:
    """Join two tables by image; the order of their rows does not matter.

    Images of one part become one unit, as the line decides on it: its score is the highest of its images', and it is anomalous if
    one of them is.

    Args:
        champion: scores of the model in force.
        challenger: scores of the model that would replace it.
        name: of the set of images, for messages.

    Raises:
        DataError: scores that are not finite, an image twice, other images, labels or groups in one table than in the other.
    """
    first, second = _sorted(champion, f"{name}, champion"), _sorted(challenger, f"{name}, challenger")
    if first.ids != second.ids:
        only_first, only_second = set(first.ids) - set(second.ids), set(second.ids) - set(first.ids)
        raise DataError(
            f"{name}: the two models were scored on different images: {len(only_first)} only by the champion, {len(only_second)} "
            f"only by the challenger, such as {shown(min(only_first | only_second))}; score both on the same images"
        )
    for what, a, b in (("labels", first.truth, second.truth), ("groups", first.groups, second.groups)):
        different = np.flatnonzero(np.asarray(a) != np.asarray(b))
        if different.size:
            raise DataError(
                f"{name}: the two tables differ in {what} of {different.size} images, such as {shown(first.ids[different[0]])}; "
                "score both models on the same version of the data set"
            )
    units, starts = np.unique(np.asarray(first.groups, dtype=np.str_), return_inverse=True)
    champion_scores, challenger_scores = (_highest(table.scores, starts, len(units)) for table in (first, second))
    return PairedScores(
        names=frozenset(first.ids) | frozenset(first.groups),
        truth=_highest(first.truth.astype(np.float64), starts, len(units)) > 0,
        champion=champion_scores,
        challenger=challenger_scores,
        champion_alarms=champion_scores >= champion.threshold,
        challenger_alarms=challenger_scores >= challenger.threshold,
        unit="images" if len(units) == len(first.ids) else "parts",
    )


@dataclass(frozen=True)
class _Rows:
    """A checked table, sorted by id."""

    ids: tuple[str, ...]
    truth: Bools
    scores: Floats
    groups: tuple[str, ...]


def _sorted(table: ScoreTable, name: str) -> _Rows:
    try:
        truth, scores = check_image_scores(table.labels, table.scores)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    if not math.isfinite(table.threshold):
        raise DataError(f"{name}: got threshold {table.threshold}, need a finite number; calibrate the model's threshold again")
    groups = tuple(table.ids if table.groups is None else table.groups)
    if not len(table.ids) == len(groups) == len(truth):
        raise DataError(
            f"{name}: got {len(table.ids)} ids, {len(groups)} groups and {len(truth)} scores, which must be the same number"
        )
    order = sorted(range(len(truth)), key=lambda row: table.ids[row])
    ids = tuple(table.ids[row] for row in order)
    repeated = [a for a, b in pairwise(ids) if a == b]
    if repeated:
        raise DataError(f"{name}: image {shown(repeated[0])} is listed twice; list each image once")
    return _Rows(ids, truth[order], scores[order], tuple(groups[row] for row in order))


def _highest(values: Floats, unit_of: NDArray[np.intp], count: int) -> Floats:
    """The highest value of each unit, ``(U,)``."""
    highest = np.full(count, -np.inf)
    np.maximum.at(highest, unit_of, values)
    return highest
