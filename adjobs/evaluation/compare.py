"""Is one model better than another, on the same images? Differences with intervals and p-values.

Both models' scores of an image rise and fall together, so a paired difference is known far more precisely than two separate
intervals suggest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from adjobs.metrics import CONFIDENCE, ranking
from adjobs.metrics.bootstrap import ROUNDING, Outcomes, Seed, Weights, count_outcomes, draw_resamples, percentiles
from adjobs.metrics.delong import delong
from adjobs.metrics.inputs import Bools, Floats, check_image_scores
from adjobs.metrics.intervals import PerfectSeparation, perfect_separation, too_few_reason, undefined_reason

MetricFunction = Callable[[Bools, Floats], float | None]


class Difference(NamedTuple):
    """A metric of model a minus that of model b.

    Attributes:
        value: the difference, above 0 if a is better; None where the metric is undefined.
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


class _NamedMetric(NamedTuple):
    compute: MetricFunction
    of_resamples: Callable[[Outcomes], Floats]
    lower_bound: Callable[[PerfectSeparation], float]


def _f1_max(truth: Bools, scores: Floats) -> float | None:
    best = ranking.f1_max(truth, scores)
    return None if best is None else best[0]


_METRICS: Mapping[str, _NamedMetric] = {
    "image_auroc": _NamedMetric(ranking.auroc, Outcomes.auroc, PerfectSeparation.auroc),
    "image_ap": _NamedMetric(ranking.average_precision, Outcomes.ap, PerfectSeparation.ap),
    "image_f1max": _NamedMetric(_f1_max, Outcomes.f1_max, PerfectSeparation.f1),
}


def compare_auroc(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, *, confidence: float = CONFIDENCE) -> Difference:
    """Difference of two AUROCs by the paired test of DeLong et al. (1988).

    Args:
        labels: ``(N,)``, 0 or 1.
        scores_a: ``(N,)``, finite.
        scores_b: ``(N,)``, finite, of the same images.
        confidence: of the interval, in (0, 1).

    Returns:
        Two models that rank every anomaly and normal image alike do not differ by this test, p-value 1, unless both separate
        the classes perfectly: then the interval is what `adjobs.metrics.intervals.PerfectSeparation` leaves possible.
    """
    truth, a = check_image_scores(labels, scores_a)
    _, b = check_image_scores(labels, scores_b)
    if undefined_reason(truth):
        return Difference(None, reason=undefined_reason(truth))
    if too_few_reason(truth):
        return Difference(_subtract(ranking.auroc(truth, a), ranking.auroc(truth, b)), reason=too_few_reason(truth))
    areas, covariance, placements = delong(truth, np.stack((a, b)))
    value = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if np.array_equal(placements[0], placements[1]):
        is_imperfect = bool(0 < areas[0] < 1)
        return (
            Difference(0.0, 0.0, 0.0, 1.0)
            if is_imperfect
            else _unvarying(truth, a, b, value, PerfectSeparation.auroc, confidence)
        )
    if variance < np.finfo(float).eps:
        return _unvarying(truth, a, b, value, None, confidence)
    error = math.sqrt(variance)
    reach = float(special.ndtri((1 + confidence) / 2)) * error
    p_value = float(2 * special.ndtr(-abs(value) / error))
    return Difference(value, max(-1.0, value - reach), min(1.0, value + reach), p_value)


def compare_metric(
    metric: str | MetricFunction,
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: Seed = 0,
) -> Difference:
    """Difference of any metric of images by a paired stratified bootstrap: both models get the same resamples.

    Args:
        metric: ``image_auroc``, ``image_ap`` or ``image_f1max``, or a function of labels ``(N,)`` bool and scores ``(N,)``
            that returns None where it is undefined, such as `adjobs.metrics.ranking.f1` with decisions in place of scores.
        labels: ``(N,)``, 0 or 1.
        scores_a: ``(N,)``, finite.
        scores_b: ``(N,)``, finite, of the same images.
        confidence: of the interval, in (0, 1).
        resamples: of the bootstrap; the p-value is at least 2 / (resamples + 1).
        seed: of the bootstrap, or its generator.

    Raises:
        ValueError: unknown metric, or labels or scores that do not fit together.
    """
    if isinstance(metric, str) and metric not in _METRICS:
        raise ValueError(f"metric: got {metric!r}, allowed are {', '.join(_METRICS)} or a function of labels and scores")
    truth, a = check_image_scores(labels, scores_a)
    _, b = check_image_scores(labels, scores_b)
    if undefined_reason(truth):
        return Difference(None, reason=undefined_reason(truth))
    compute = _METRICS[metric].compute if isinstance(metric, str) else metric
    value = _subtract(compute(truth, a), compute(truth, b))
    if value is None:
        return Difference(None, reason="the metric is undefined")
    if too_few_reason(truth):
        return Difference(value, reason=too_few_reason(truth))
    differences = [
        _of_resamples(metric, truth, a, weights) - _of_resamples(metric, truth, b, weights)
        for weights in draw_resamples(truth, resamples, seed)
    ]
    values = np.concatenate(differences)
    defined = values[~np.isnan(values)]
    defined[np.abs(defined) < ROUNDING] = 0  # ties count for both sides of the p-value
    if 2 * len(defined) < len(values):
        return Difference(value, reason="undefined in most resamples")
    if np.ptp(defined) < ROUNDING:
        lower_bound = _METRICS[metric].lower_bound if isinstance(metric, str) else None
        return _unvarying(truth, a, b, value, lower_bound, confidence)
    return _from_resamples(value, defined, confidence)


def compare_resampled(
    a: float, b: float, resampled_a: ArrayLike, resampled_b: ArrayLike, *, confidence: float = CONFIDENCE
) -> Difference:
    """Difference of any metric by a paired bootstrap whose resamples have been evaluated already.

    Args:
        a: the metric of model a.
        b: of model b.
        resampled_a: ``(R,)`` the metric of model a in each resample, NaN where undefined.
        resampled_b: ``(R,)`` that of model b in the same resamples.
        confidence: of the interval, in (0, 1).
    """
    value, differences = a - b, np.asarray(resampled_a, dtype=np.float64) - np.asarray(resampled_b, dtype=np.float64)
    defined = differences[~np.isnan(differences)]
    if 2 * len(defined) < len(differences):
        return Difference(value, reason="undefined in most resamples")
    return _from_resamples(value, defined, confidence)


def _from_resamples(value: float, differences: Floats, confidence: float) -> Difference:
    low, high = percentiles(differences, confidence)
    tail = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    p_value = min(1.0, float(2 * (tail + 1) / (len(differences) + 1)))
    return Difference(value, min(value, float(low)), max(value, float(high)), p_value)


def _subtract(a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return None
    return a - b if abs(a - b) > ROUNDING else 0.0


def _unvarying(
    truth: Bools, a: Floats, b: Floats, value: float, lower_bound: Callable[[PerfectSeparation], float] | None, confidence: float
) -> Difference:
    """A difference that is the same in every resample: certain for the same scores, bounded for two perfect models."""
    if np.array_equal(a, b):
        return Difference(0.0, 0.0, 0.0, 1.0)
    if lower_bound is not None and all(scores[truth].min() > scores[~truth].max() for scores in (a, b)):
        # Each end takes half of the allowed error: one model at its bound, the other at 1.
        reach = 1 - lower_bound(perfect_separation(int(truth.sum()), int((~truth).sum()), (1 + confidence) / 2))
        return Difference(value, -reach, reach, 1.0)
    return Difference(value, reason="the difference does not vary between images")


def _of_resamples(metric: str | MetricFunction, truth: Bools, scores: Floats, weights: Weights) -> Floats:
    """The metric of each resample, ``(R,)``, NaN where it is undefined."""
    if isinstance(metric, str):
        return _METRICS[metric].of_resamples(count_outcomes(truth, scores, weights))
    resamples = (np.repeat(np.arange(len(truth)), of_images) for of_images in weights)
    return np.array([np.nan if (value := metric(truth[drawn], scores[drawn])) is None else value for drawn in resamples])
