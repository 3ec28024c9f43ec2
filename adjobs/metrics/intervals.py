"""How far a figure can be trusted: intervals of measures and bands of curves, from the images at hand.

- Plain proportions (sensitivity, specificity, precision, accuracy): Clopper and Pearson (1934). Exact, and sound at 0 and 1,
  where a bootstrap returns the figure itself.
- AUROC: DeLong (1988) in the fast form of Sun and Xu (2014), on the logit scale.
- AP, F1, F1max: stratified bootstrap, percentile interval.
- A perfect figure varies neither by DeLong nor over resamples. Its lower end is then what the exact bounds on the share of
  anomalies missed and of good images that alarm leave possible (see `Perfect`).

All of them take images as independent draws: pictures of the same part should not be counted as two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from adjobs.metrics import CONFIDENCE
from adjobs.metrics.binned import count_pixels
from adjobs.metrics.bootstrap import ROUNDING, Outcomes, Seed, draws, outcomes, percentiles
from adjobs.metrics.delong import delong
from adjobs.metrics.inputs import Bools, Floats, image_scores, pixel_scores
from adjobs.metrics.ranking import auroc
from adjobs.metrics.region import check_limit, with_defects

_BAND_POINTS = 201
_BAND_AT = np.linspace(0, 1, _BAND_POINTS)


class Estimate(NamedTuple):
    """A measure with its interval.

    Attributes:
        value: the measure, or None where it is undefined.
        low: lower end of the interval, or None where there is no interval.
        high: upper end.
        reason: why the value or the interval is missing, or "".
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


class Band(NamedTuple):
    """Pointwise interval of a curve: its ordinate lies between ``low`` and ``high`` at ``x``, ``(K,)`` each, x ascending."""

    x: Floats
    low: Floats
    high: Floats


class Perfect(NamedTuple):
    """What is still possible after all m anomalies outranked all n good images, whatever the distributions.

    At least the share ``found`` of future anomalies reaches a score between the two classes, and at most the share
    ``alarms`` of future good images does: the bounds of Clopper and Pearson (1934), which also hold where the threshold is
    an order statistic of the same scores (Wilks 1941). Each spends half of the allowed error, so that both hold at once.
    AP and F1 are the least that two such shares allow, at the prevalence of the sample.
    """

    found: float
    alarms: float
    anomalous: int
    normal: int

    def auroc(self) -> float:
        """Least AUROC A: the first min(m, n) pairs are independent, and all in the right order with probability A^min(m, n)."""
        return min(self.found, 1 - self.alarms)

    def f1(self) -> float:
        """Least F1 at such a threshold, hence also the least F1max."""
        true = self.found * self.anomalous
        return 2 * true / (self.anomalous + true + self.alarms * self.normal)

    def ap(self) -> float:
        """Least AP, false alarms first: the integral of m r / (m r + n alarms) over the recalls r up to ``found``."""
        odds = self.alarms * self.normal / self.anomalous
        return self.found - odds * math.log1p(self.found / odds)


def perfect(anomalous: int, normal: int, confidence: float = CONFIDENCE) -> Perfect:
    """Bounds after perfect separation of so many images, at least 1 each."""
    found, alarms = proportion(anomalous, anomalous, confidence), proportion(0, normal, confidence)
    return Perfect(found.low or 0.0, 1.0 if alarms.high is None else alarms.high, anomalous, normal)


def proportion(hits: int, of: int, confidence: float = CONFIDENCE, missing: str = "no images") -> Estimate:
    """``hits`` / ``of`` with the exact interval of Clopper and Pearson (1934); None with reason ``missing`` of nothing."""
    if not of:
        return Estimate(None, reason=missing)
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(hits, of - hits + 1, tail)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, of - hits, 1 - tail)) if hits < of else 1.0
    return Estimate(hits / of, low, high)


def auroc_interval(labels: ArrayLike, scores: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """AUROC with its DeLong interval.

    The interval is symmetric on the logit scale, where it stays within (0, 1) and holds more often near 1 than the plain
    one. Perfect separation, for which DeLong's variance is 0, gets the bound of `Perfect`; perfectly wrong scores its mirror
    image.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, finite.
        confidence: of the interval, in (0, 1).
    """
    truth, values = image_scores(labels, scores)
    missing = undefined(truth)
    if missing:
        return Estimate(None, reason=missing)
    lone = few(truth)
    if lone:
        return Estimate(auroc(truth, values), reason=lone)
    areas, covariance, _ = delong(truth, values[None])
    area, variance = float(areas[0]), float(covariance[0, 0])
    if area in (0.0, 1.0):
        least = perfect(int(truth.sum()), int((~truth).sum()), confidence).auroc()
        return Estimate(area, least, 1.0) if area else Estimate(area, 0.0, 1 - least)
    if variance == 0:
        return Estimate(area, reason="all scores are the same")
    return Estimate(area, *_logit_interval(area, math.sqrt(variance), confidence))


def bootstrapped(
    value: float | None, values: Floats, confidence: float, edge: tuple[float, float] | None = None, shift: float = 0.0
) -> Estimate:
    """A measure with the percentile interval of its resamples, within [0, 1].

    Args:
        value: the measure itself. The interval is widened to hold it, should the resamples all miss it.
        values: ``(R,)`` of the resamples, NaN where it is undefined.
        confidence: of the interval, in (0, 1).
        edge: the interval if all resamples give the same value; None is no interval.
        shift: added to the interval.
    """
    known = values[~np.isnan(values)]
    if value is None or 2 * len(known) < len(values):
        return Estimate(value, reason="undefined in most resamples")
    if np.ptp(known) < ROUNDING:
        return Estimate(value, *edge) if edge else Estimate(value, reason="every resample gives the same value")
    low, high = percentiles(known, confidence)
    return Estimate(value, max(0.0, min(value, float(low) + shift)), min(1.0, max(value, float(high) + shift)))


def roc_band(
    labels: ArrayLike, scores: ArrayLike, *, confidence: float = CONFIDENCE, resamples: int = 1000, seed: Seed = 0
) -> Band | None:
    """Detection rate against false-alarm rate from 0 to 1, pointwise, by stratified bootstrap.

    Returns:
        None with fewer than two images of a class.
    """

    def curves(result: Outcomes) -> Iterable[Floats]:
        # np.interp takes the upper end of a vertical piece, as the figure does.
        for fpr, recall in zip(result.fpr(), result.recall(), strict=True):
            yield np.interp(_BAND_AT, np.append(0, fpr), np.append(0, recall))

    return _band(labels, scores, curves, confidence, resamples, seed)


def pr_band(
    labels: ArrayLike, scores: ArrayLike, *, confidence: float = CONFIDENCE, resamples: int = 1000, seed: Seed = 0
) -> Band | None:
    """Precision against recall from 0 to 1, pointwise, by stratified bootstrap.

    Precision at a recall is that of the highest threshold which reaches the recall.

    Returns:
        None with fewer than two images of a class.
    """

    def curves(result: Outcomes) -> Iterable[Floats]:
        wanted = np.maximum(_BAND_AT, 1e-12)  # the first threshold that finds any anomaly stands for recall 0
        for recall, precision in zip(result.recall(), result.precision(), strict=True):
            yield precision[np.searchsorted(recall, wanted)]

    return _band(labels, scores, curves, confidence, resamples, seed)


def _band(
    labels: ArrayLike,
    scores: ArrayLike,
    curves: Callable[[Outcomes], Iterable[Floats]],
    confidence: float,
    resamples: int,
    seed: Seed,
) -> Band | None:
    """The band of the curves that resamples give, each at ``_BAND_AT``; None with fewer than two images of a class."""
    truth, values = image_scores(labels, scores)
    if few(truth):
        return None
    rows = [row for weights in draws(truth, resamples, seed) for row in curves(outcomes(truth, values, weights))]
    return Band(_BAND_AT, *percentiles(np.array(rows), confidence))


def pro_band(
    maps: ArrayLike,
    masks: ArrayLike,
    limit: float = 0.3,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: Seed = 0,
) -> Band | None:
    """Mean overlap of the regions against the false-alarm rate of pixels from 0 to ``limit``, pointwise.

    By stratified bootstrap over images, on curves through some thousand of their vertices (see `binned`).

    Returns:
        None without defect-free pixels or with defects in fewer than two images.
    """
    check_limit(limit)
    scores, truth = pixel_scores(maps, masks)
    anomalous = with_defects(truth)
    if anomalous.sum() < 2 or truth.all():
        return None
    pixels = count_pixels(scores, truth)
    x = np.linspace(0, limit, _BAND_POINTS)
    rows: list[Floats] = []
    for weights in draws(anomalous, resamples, seed):
        drawn = weights.astype(np.float32)
        rows.extend(np.interp(x, *curve) for curve in zip(pixels.fpr(drawn), pixels.overlap(drawn), strict=True))
    return Band(x, *percentiles(np.array(rows), confidence))


def undefined(truth: Bools) -> str:
    """Why a measure of both classes is undefined on these images, or ""."""
    if not truth.size:
        return "no images"
    if not truth.any():
        return "no anomalous images"
    return "no good images" if truth.all() else ""


def few(truth: Bools) -> str:
    """Why images of these classes cannot say how much a measure varies, or ""."""
    if truth.sum() < 2:
        return "fewer than 2 anomalous images"
    return "fewer than 2 good images" if (~truth).sum() < 2 else ""


def _logit_interval(area: float, error: float, confidence: float) -> tuple[float, float]:
    reach = float(special.ndtri((1 + confidence) / 2)) * error / (area * (1 - area))
    centre = math.log(area / (1 - area))
    return float(_logistic(centre - reach)), float(_logistic(centre + reach))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
