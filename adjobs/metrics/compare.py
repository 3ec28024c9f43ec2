"""Is one model better than another, on the same images? Differences with intervals and p-values.

Both models' scores of an image rise and fall together, so a paired difference is known far better than two intervals side by
side suggest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from adjobs.metrics import CONFIDENCE, ranking
from adjobs.metrics.bootstrap import ROUNDING, Outcomes, Seed, Weights, draws, outcomes, percentiles
from adjobs.metrics.delong import delong
from adjobs.metrics.inputs import Bools, Floats, image_scores
from adjobs.metrics.intervals import Perfect, few, perfect, undefined

Measure = Callable[[Bools, Floats], float | None]


class Difference(NamedTuple):
    """A measure of model a minus that of model b.

    Attributes:
        value: the difference, above 0 if a is better; None where the measure is undefined.
        low: lower end of its interval, or None where there is no interval.
        high: upper end.
        p_value: two-sided, of the hypothesis that the models are equally good; None where there is none.
        reason: why the value or the interval is missing, or "".
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    reason: str = ""


class _Known(NamedTuple):
    figure: Measure
    rows: Callable[[Outcomes], Floats]
    least: Callable[[Perfect], float]


def _f1_max(truth: Bools, scores: Floats) -> float | None:
    best = ranking.f1_max(truth, scores)
    return None if best is None else best[0]


_KNOWN: Mapping[str, _Known] = {
    "image_auroc": _Known(ranking.auroc, Outcomes.auroc, Perfect.auroc),
    "image_ap": _Known(ranking.average_precision, Outcomes.ap, Perfect.ap),
    "image_f1max": _Known(_f1_max, Outcomes.f1_max, Perfect.f1),
}


def compare_auroc(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, *, confidence: float = CONFIDENCE) -> Difference:
    """Difference of two AUROCs by the paired test of DeLong et al. (1988).

    Args:
        labels: ``(N,)``, 0 or 1.
        scores_a: ``(N,)``, finite.
        scores_b: ``(N,)``, finite, of the same images.
        confidence: of the interval, in (0, 1).

    Returns:
        Two models that rank every anomaly and good image alike do not differ at all by this test, p-value 1, unless both
        separate the classes perfectly: then the interval is what `adjobs.metrics.intervals.Perfect` leaves possible.
    """
    truth, a = image_scores(labels, scores_a)
    _, b = image_scores(labels, scores_b)
    missing = undefined(truth)
    if missing:
        return Difference(None, reason=missing)
    if few(truth):
        return Difference(_subtract(ranking.auroc(truth, a), ranking.auroc(truth, b)), reason=few(truth))
    areas, covariance, placements = delong(truth, np.stack((a, b)))
    value = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if np.array_equal(placements[0], placements[1]):
        certain = bool(0 < areas[0] < 1)
        return Difference(0.0, 0.0, 0.0, 1.0) if certain else _unvarying(truth, a, b, value, Perfect.auroc, confidence)
    if variance < np.finfo(float).eps:
        return _unvarying(truth, a, b, value, None, confidence)
    error = math.sqrt(variance)
    reach = float(special.ndtri((1 + confidence) / 2)) * error
    p_value = float(2 * special.ndtr(-abs(value) / error))
    return Difference(value, max(-1.0, value - reach), min(1.0, value + reach), p_value)


def compare(
    measure: str | Measure,
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: Seed = 0,
) -> Difference:
    """Difference of any measure of images by a paired stratified bootstrap: both models get the same resamples.

    Args:
        measure: ``image_auroc``, ``image_ap`` or ``image_f1max``, or a function of labels ``(N,)`` bool and scores ``(N,)``
            that returns None where it is undefined, such as `adjobs.metrics.ranking.f1` with decisions for scores.
        labels: ``(N,)``, 0 or 1.
        scores_a: ``(N,)``, finite.
        scores_b: ``(N,)``, finite, of the same images.
        confidence: of the interval, in (0, 1).
        resamples: of the bootstrap; the p-value is at least 2 / (resamples + 1).
        seed: of the bootstrap, or its generator.

    Raises:
        ValueError: no such measure, or labels or scores that do not fit together.
    """
    if isinstance(measure, str) and measure not in _KNOWN:
        raise ValueError(f"measure: got {measure!r}, allowed are {', '.join(_KNOWN)} or a function of labels and scores")
    truth, a = image_scores(labels, scores_a)
    _, b = image_scores(labels, scores_b)
    missing = undefined(truth)
    if missing:
        return Difference(None, reason=missing)
    figure = _KNOWN[measure].figure if isinstance(measure, str) else measure
    value = _subtract(figure(truth, a), figure(truth, b))
    if value is None:
        return Difference(None, reason="the measure is undefined")
    if few(truth):
        return Difference(value, reason=few(truth))
    rows = [_rows(measure, truth, a, weights) - _rows(measure, truth, b, weights) for weights in draws(truth, resamples, seed)]
    values = np.concatenate(rows)
    known = values[~np.isnan(values)]
    known[np.abs(known) < ROUNDING] = 0  # ties count for both sides of the p-value
    if 2 * len(known) < len(values):
        return Difference(value, reason="undefined in most resamples")
    if np.ptp(known) < ROUNDING:
        least = _KNOWN[measure].least if isinstance(measure, str) else None
        return _unvarying(truth, a, b, value, least, confidence)
    low, high = percentiles(known, confidence)
    tail = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    p_value = min(1.0, float(2 * (tail + 1) / (len(known) + 1)))
    return Difference(value, min(value, float(low)), max(value, float(high)), p_value)


def _subtract(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return None
    return a - b if abs(a - b) > ROUNDING else 0.0


def _unvarying(
    truth: Bools, a: Floats, b: Floats, value: float, least: Callable[[Perfect], float] | None, confidence: float
) -> Difference:
    """A difference that is the same in every resample: certain for the same scores, bounded for two perfect models."""
    if np.array_equal(a, b):
        return Difference(0.0, 0.0, 0.0, 1.0)
    if least is not None and all(scores[truth].min() > scores[~truth].max() for scores in (a, b)):
        # Either end takes half of the allowed error: the one model at its bound, the other at 1.
        reach = 1 - least(perfect(int(truth.sum()), int((~truth).sum()), (1 + confidence) / 2))
        return Difference(value, -reach, reach, 1.0)
    return Difference(value, reason="the difference does not vary between images")


def _rows(measure: str | Measure, truth: Bools, scores: Floats, weights: Weights) -> Floats:
    """The measure of each resample, ``(R,)``, NaN where it is undefined."""
    if isinstance(measure, str):
        return _KNOWN[measure].rows(outcomes(truth, scores, weights))
    drawn = (np.repeat(np.arange(len(truth)), row) for row in weights)
    return np.array([np.nan if (one := measure(truth[rows], scores[rows])) is None else one for rows in drawn])
