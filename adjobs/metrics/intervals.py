"""How far a metric can be trusted: intervals of metrics and bands of curves, from the images at hand.

- Plain proportions (recall, specificity, precision, accuracy): Clopper and Pearson (1934). Exact, and sound at 0 and 1,
  where a bootstrap returns the value itself.
- AUROC: DeLong (1988) in the fast form of Sun and Xu (2014), on the logit scale.
- AP, F1, F1max: stratified bootstrap, percentile interval.
- A perfect metric varies neither by DeLong nor over resamples. Its lower end is then what the exact bounds on the share of
  anomalies missed and of normal images that alarm leave possible (see `PerfectSeparation`).

All of them take images as independent draws: two images of the same part should not be counted as two.
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
from adjobs.metrics.bootstrap import ROUNDING, Outcomes, Seed, count_outcomes, draw_resamples, percentiles
from adjobs.metrics.delong import delong
from adjobs.metrics.inputs import Bools, Floats, check_image_scores, check_pixel_scores
from adjobs.metrics.ranking import auroc
from adjobs.metrics.region import check_limit, with_defects

_BAND_POINTS = 201
_BAND_AT = np.linspace(0, 1, _BAND_POINTS)


class Estimate(NamedTuple):
    """A metric with its interval.

    Attributes:
        value: the metric, or None where it is undefined.
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


class PerfectSeparation(NamedTuple):
    """What is still possible after all m anomalies outranked all n normal images, whatever the distributions.

    At least the share ``recall`` of future anomalies reaches a score between the two classes, and at most the share ``fpr`` of
    future normal images does: the bounds of Clopper and Pearson (1934), which also hold if the threshold is an order statistic
    of the same scores (Wilks 1941). Each uses half of the allowed error, so that both hold at once. AP and F1 are the least
    that two such shares allow, at the prevalence of the sample.
    """

    recall: float
    fpr: float
    n_anomalous: int
    n_normal: int

    def auroc(self) -> float:
        """Least AUROC A: the first min(m, n) pairs are independent, and all in the right order with probability A^min(m, n)."""
        return min(self.recall, 1 - self.fpr)

    def f1(self) -> float:
        """Least F1 at such a threshold, hence also the least F1max."""
        true_alarms = self.recall * self.n_anomalous
        return 2 * true_alarms / (self.n_anomalous + true_alarms + self.fpr * self.n_normal)

    def ap(self) -> float:
        """Least AP, false alarms first: the integral of m r / (m r + n fpr) over the recalls r up to ``recall``."""
        odds = self.fpr * self.n_normal / self.n_anomalous
        return self.recall - odds * math.log1p(self.recall / odds)


def perfect_separation(n_anomalous: int, n_normal: int, confidence: float = CONFIDENCE) -> PerfectSeparation:
    """Bounds after perfect separation of so many images, at least 1 each."""
    recall, fpr = proportion(n_anomalous, n_anomalous, confidence), proportion(0, n_normal, confidence)
    return PerfectSeparation(recall.low or 0.0, 1.0 if fpr.high is None else fpr.high, n_anomalous, n_normal)


def proportion(hits: int, total: int, confidence: float = CONFIDENCE, reason: str = "no images") -> Estimate:
    """``hits`` / ``total`` with the exact interval of Clopper and Pearson (1934); None with ``reason`` if ``total`` is 0."""
    if not total:
        return Estimate(None, reason=reason)
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(hits, total - hits + 1, tail)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, total - hits, 1 - tail)) if hits < total else 1.0
    return Estimate(hits / total, low, high)


def auroc_interval(labels: ArrayLike, scores: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """AUROC with its DeLong interval.

    The interval is symmetric on the logit scale, where it stays within (0, 1) and holds more often near 1 than the plain
    one. Perfect separation, for which DeLong's variance is 0, gets the bound of `PerfectSeparation`; perfectly inverted scores
    get its mirror image.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, finite.
        confidence: of the interval, in (0, 1).
    """
    truth, values = check_image_scores(labels, scores)
    if undefined_reason(truth):
        return Estimate(None, reason=undefined_reason(truth))
    if too_few_reason(truth):
        return Estimate(auroc(truth, values), reason=too_few_reason(truth))
    areas, covariance, _ = delong(truth, values[None])
    area, variance = float(areas[0]), float(covariance[0, 0])
    if area in (0.0, 1.0):
        least = perfect_separation(int(truth.sum()), int((~truth).sum()), confidence).auroc()
        return Estimate(area, least, 1.0) if area else Estimate(area, 0.0, 1 - least)
    if variance == 0:
        return Estimate(area, reason="all scores are the same")
    return Estimate(area, *_logit_interval(area, math.sqrt(variance), confidence))


def bootstrapped(
    value: float | None, values: Floats, confidence: float, edge: tuple[float, float] | None = None, shift: float = 0.0
) -> Estimate:
    """A metric with the percentile interval of its resamples, within [0, 1].

    Args:
        value: the metric itself. The interval is widened to hold it, should the resamples all miss it.
        values: ``(R,)`` of the resamples, NaN where it is undefined.
        confidence: of the interval, in (0, 1).
        edge: the interval if all resamples give the same value; None is no interval.
        shift: added to both ends of the interval.
    """
    defined = values[~np.isnan(values)]
    if value is None or 2 * len(defined) < len(values):
        return Estimate(value, reason="undefined in most resamples")
    if np.ptp(defined) < ROUNDING:
        return Estimate(value, *edge) if edge else Estimate(value, reason="every resample gives the same value")
    low, high = percentiles(defined, confidence)
    return Estimate(value, max(0.0, min(value, float(low) + shift)), min(1.0, max(value, float(high) + shift)))


def roc_band(
    labels: ArrayLike, scores: ArrayLike, *, confidence: float = CONFIDENCE, resamples: int = 1000, seed: Seed = 0
) -> Band | None:
    """Detection rate against false-alarm rate from 0 to 1, pointwise, by stratified bootstrap.

    Returns:
        None with fewer than two images of a class.
    """

    def curves(result: Outcomes) -> Iterable[Floats]:
        # np.interp takes the upper end of a vertical segment, as the figure does.
        for fpr, recall in zip(result.fpr(), result.recall(), strict=True):
            yield np.interp(_BAND_AT, np.append(0, fpr), np.append(0, recall))

    return _band(labels, scores, curves, confidence, resamples, seed)


def pr_band(
    labels: ArrayLike, scores: ArrayLike, *, confidence: float = CONFIDENCE, resamples: int = 1000, seed: Seed = 0
) -> Band | None:
    """Precision against recall from 0 to 1, pointwise, by stratified bootstrap.

    Precision at a recall is that of the highest threshold that reaches the recall.

    Returns:
        None with fewer than two images of a class.
    """

    def curves(result: Outcomes) -> Iterable[Floats]:
        at = np.maximum(_BAND_AT, 1e-12)  # the highest threshold that detects an anomaly stands for recall 0
        for recall, precision in zip(result.recall(), result.precision(), strict=True):
            yield precision[np.searchsorted(recall, at)]

    return _band(labels, scores, curves, confidence, resamples, seed)


def _band(
    labels: ArrayLike,
    scores: ArrayLike,
    curves: Callable[[Outcomes], Iterable[Floats]],
    confidence: float,
    resamples: int,
    seed: Seed,
) -> Band | None:
    """The band of the curves of the resamples, each at ``_BAND_AT``; None with fewer than two images of a class."""
    truth, values = check_image_scores(labels, scores)
    if too_few_reason(truth):
        return None
    resampled = [
        curve for weights in draw_resamples(truth, resamples, seed) for curve in curves(count_outcomes(truth, values, weights))
    ]
    return Band(_BAND_AT, *percentiles(np.array(resampled), confidence))


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

    By stratified bootstrap over images, on curves through about a thousand of their vertices (see `binned`).

    Returns:
        None without defect-free pixels or with defects in fewer than two images.
    """
    check_limit(limit)
    scores, truth = check_pixel_scores(maps, masks)
    anomalous = with_defects(truth)
    if anomalous.sum() < 2 or truth.all():
        return None
    pixels = count_pixels(scores, truth)
    x = np.linspace(0, limit, _BAND_POINTS)
    resampled: list[Floats] = []
    for weights in draw_resamples(anomalous, resamples, seed):
        drawn = weights.astype(np.float32)
        resampled.extend(np.interp(x, *curve) for curve in zip(pixels.fpr(drawn), pixels.overlap(drawn), strict=True))
    return Band(x, *percentiles(np.array(resampled), confidence))


def undefined_reason(truth: Bools) -> str:
    """Why a metric of both classes is undefined on these images, or ""."""
    if not truth.size:
        return "no images"
    if not truth.any():
        return "no anomalous images"
    return "no normal images" if truth.all() else ""


def too_few_reason(truth: Bools) -> str:
    """Why these images cannot show how much a metric varies, or ""."""
    if truth.sum() < 2:
        return "fewer than 2 anomalous images"
    return "fewer than 2 normal images" if (~truth).sum() < 2 else ""


def _logit_interval(area: float, error: float, confidence: float) -> tuple[float, float]:
    reach = float(special.ndtri((1 + confidence) / 2)) * error / (area * (1 - area))
    centre = math.log(area / (1 - area))
    return float(_logistic(centre - reach)), float(_logistic(centre + reach))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
