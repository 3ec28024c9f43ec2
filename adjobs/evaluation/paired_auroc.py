"""Limits of the difference of two AUROCs that keep their error near an AUROC of 1, where DeLong's difference does not.

The difference is skewed there: its plain normal limit lets a challenger that is worse by the margin pass two to four times as
often as stated. Here the limits are recovered from each AUROC's own limits on the logit scale and their correlation (Zou and
Donner 2008, the method of Newcombe 1998 for proportions), with a wider quantile for few images.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from adjobs.evaluation.compare import Difference
from adjobs.metrics.delong import delong
from adjobs.metrics.inputs import Bools, Floats
from adjobs.metrics.intervals import auroc_interval, too_few_reason, undefined_reason


def auroc_difference(truth: Bools, first: Floats, second: Floats, confidence: float) -> Difference:
    """AUROC of the first model minus that of the second, with limits and without a p-value.

    Args:
        truth: ``(N,)``.
        first: ``(N,)``, finite.
        second: ``(N,)``, finite, of the same images.
        confidence: of the two-sided interval, in (0, 1).
    """
    reason = undefined_reason(truth) or too_few_reason(truth)
    if reason:
        return Difference(None, reason=reason)
    areas, covariance, placements = delong(truth, np.stack((first, second)))
    value = float(areas[0] - areas[1])
    if np.array_equal(first, second) or (np.array_equal(placements[0], placements[1]) and 0 < areas[0] < 1):
        return Difference(0.0, 0.0, 0.0)
    wider = _with_few_images(confidence, int(min(truth.sum(), (~truth).sum())))
    a, b = (auroc_interval(truth, scores, wider) for scores in (first, second))
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Difference(value, reason=a.reason or b.reason)
    errors = math.sqrt(covariance[0, 0] * covariance[1, 1])
    correlation = min(1.0, max(0.0, float(covariance[0, 1]) / errors)) if errors else 0.0
    low = value - _combine(float(areas[0]) - a.low, b.high - float(areas[1]), correlation)
    high = value + _combine(a.high - float(areas[0]), float(areas[1]) - b.low, correlation)
    return Difference(value, max(-1.0, low), min(1.0, high))


def _with_few_images(confidence: float, smaller: int) -> float:
    """The confidence whose normal quantile is Student's, with a quarter of the smaller class's degrees of freedom.

    A quarter keeps the error with 10 to 60 anomalies in simulations: the variances themselves come from few misordered images.
    """
    quantile = special.stdtrit((smaller - 1) / 4, (1 + confidence) / 2)
    return float(2 * special.ndtr(quantile) - 1)


def _combine(first: float, second: float, correlation: float) -> float:
    """Distance from the difference to its limit."""
    return math.sqrt(max(first**2 + second**2 - 2 * correlation * first * second, 0.0))
