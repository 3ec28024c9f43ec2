"""All metrics of a test set with their intervals, by name: what a run logs.

An undefined metric is an `Estimate` without a value, with the reason. It is never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adjobs.metrics import CONFIDENCE, ranking
from adjobs.metrics.binned import DEFAULT_LIMIT, count_pixels, pro_name, size_name
from adjobs.metrics.bootstrap import Sampling, Seed, Weights, count_outcomes, draw_resamples
from adjobs.metrics.inputs import Bools, Floats, check_image_scores, check_pixel_scores
from adjobs.metrics.intervals import (
    Estimate,
    PerfectSeparation,
    auroc_interval,
    bootstrapped,
    perfect_separation,
    proportion,
    too_few_reason,
    undefined_reason,
)
from adjobs.metrics.order import FreePixels, rank
from adjobs.metrics.pixel_intervals import PIXEL_DECISION_METRICS, exact_metrics, pixel_decision_metrics, with_intervals
from adjobs.metrics.region import SIZES, check_limit, find_regions, with_defects

UNTYPED = "untyped"


def image_metrics(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float | None,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: Seed = 0,
) -> dict[str, Estimate]:
    """AUROC, AP, F1max, and at the threshold F1, accuracy, precision, recall, specificity of images.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, finite.
        threshold: an image is predicted anomalous if its score is at least that; None leaves out what needs one. It should
            have been chosen without these images, or the intervals are too narrow.
        confidence: of the intervals, in (0, 1).
        resamples: of the bootstrap for AP, F1 and F1max.
        seed: of the bootstrap, or its generator.

    Returns:
        By the names ``image_auroc``, ``image_ap``, ``image_f1max``, ``image_f1``, ``image_accuracy``, ``image_precision``,
        ``image_recall`` and ``image_specificity``.
    """
    truth, values = check_image_scores(labels, scores)
    sampling = Sampling(confidence, resamples, seed)
    metrics = {"image_auroc": auroc_interval(truth, values, confidence)}
    names = ["image_ap", "image_f1max"] if threshold is None else ["image_ap", "image_f1max", "image_f1"]
    metrics |= _resampled_metrics(truth, values, threshold, names, sampling)
    return metrics if threshold is None else metrics | _proportions(truth, values >= threshold, confidence)


def image_metrics_by_defect(
    labels: ArrayLike,
    scores: ArrayLike,
    defects: Sequence[str],
    threshold: float | None,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: Seed = 0,
) -> dict[str, dict[str, Estimate]]:
    """How well each defect type is separated from all normal images.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, finite.
        defects: N types. Anomalous images without one are of type `UNTYPED`; those of normal images are ignored.
        threshold: as for `image_metrics`.
        confidence: of the intervals, in (0, 1).
        resamples: of the bootstrap for AP.
        seed: of the bootstrap, or its generator.

    Returns:
        By type, in alphabetical order: ``image_auroc``, ``image_ap``, and with a threshold ``image_recall``.

    Raises:
        ValueError: the lengths differ, or labels or scores are invalid.
    """
    truth, values = check_image_scores(labels, scores)
    types = np.where(truth, _types(truth, defects), "")
    sampling = Sampling(confidence, resamples, seed)
    by_defect = {}
    for defect in np.unique(types[truth]):
        is_in = ~truth | (types == defect)
        metrics = {"image_auroc": auroc_interval(truth[is_in], values[is_in], confidence)}
        metrics |= _resampled_metrics(truth[is_in], values[is_in], None, ["image_ap"], sampling)
        if threshold is not None:
            alarms = values[types == defect] >= threshold
            metrics["image_recall"] = proportion(int(alarms.sum()), alarms.size, confidence)
        by_defect[str(defect)] = metrics
    return by_defect


def pixel_metrics(  # noqa: PLR0913 - all but the first three by name
    maps: ArrayLike,
    masks: ArrayLike,
    threshold: float | None,
    *,
    defects: Sequence[str] | None = None,
    limits: Sequence[float] = (DEFAULT_LIMIT,),
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: Seed = 0,
) -> dict[str, Estimate]:
    """All pixel metrics. The values are exact; the intervals are from a bootstrap over images (see `binned`).

    Args:
        maps: ``(N, H, W)`` floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels.
        threshold: a pixel is predicted defective if its score is at least that; None leaves out what needs one.
        defects: N defect types. With them each type is resampled separately, so that every resample has the same mix; types
            with a single image are resampled together.
        limits: largest false-positive rates of AU-PRO, in (0, 1].
        confidence: of the intervals, in (0, 1).
        resamples: of the bootstrap.
        seed: of the bootstrap, or its generator.

    Returns:
        By the names ``pixel_auroc``, ``pixel_ap``, ``pixel_f1max``; ``au_pro`` for limit 0.3 and ``au_pro@0.05`` and the like
        for others; ``au_pro_small``, ``au_pro_medium`` and ``au_pro_large`` for the regions of one of `SIZES` with limit 0.3;
        with a threshold ``pixel_f1``, ``pixel_precision`` and ``pixel_recall``.

    Raises:
        ValueError: a limit out of range, or maps, masks and types that do not fit together.
    """
    for limit in limits:
        check_limit(limit)
    scores, truth = check_pixel_scores(maps, masks)
    sampling = Sampling(confidence, resamples, seed)
    regions = find_regions(truth)
    ranks = rank(scores, truth)
    if ranks is None:
        names = [*_RANKED, *map(pro_name, limits), *map(size_name, SIZES), *([] if threshold is None else PIXEL_DECISION_METRICS)]
        return dict.fromkeys(names, Estimate(None, reason=_no_pixels(truth)))
    anomalous = with_defects(truth)
    strata = anomalous.astype(str) if defects is None else _strata(_types(anomalous, defects))
    counts = count_pixels(scores, truth, regions)
    metrics = with_intervals(exact_metrics(ranks, regions, limits), counts, strata, limits, sampling)
    return metrics if threshold is None else metrics | pixel_decision_metrics(scores, truth, threshold, strata, sampling)


def pixel_metrics_by_defect(
    maps: ArrayLike,
    masks: ArrayLike,
    defects: Sequence[str],
    *,
    limits: Sequence[float] = (DEFAULT_LIMIT,),
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: Seed = 0,
) -> dict[str, dict[str, Estimate]]:
    """Pixel AP and AU-PRO of each defect type, on its images and the normal ones.

    Args:
        maps: ``(N, H, W)`` floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels.
        defects: N types, "" for normal images. Images with defect pixels but no type are of type `UNTYPED`.
        limits: largest false-positive rates of AU-PRO, in (0, 1].
        confidence: of the intervals, in (0, 1).
        resamples: of the bootstrap.
        seed: of the bootstrap, or its generator.

    Returns:
        By type, in alphabetical order: ``pixel_ap`` and AU-PRO by the names of `pixel_summary`.

    Raises:
        ValueError: a limit out of range, or maps, masks and types that do not fit together.
    """
    for limit in limits:
        check_limit(limit)
    scores, truth = check_pixel_scores(maps, masks)
    types = _types(with_defects(truth), defects)
    normal = np.flatnonzero(types == "")
    free = FreePixels([scores[i] for i in normal], [truth[i] for i in normal])  # sorted once for all types
    counts = count_pixels(scores, truth) if truth.any() else None
    names = ["pixel_ap", *map(pro_name, limits)]
    by_defect = {}
    for defect in np.unique(types[types != ""]):
        anomalous = np.flatnonzero(types == defect)
        ranks = rank([scores[i] for i in anomalous], [truth[i] for i in anomalous], beside=free)
        if ranks is None or counts is None:
            by_defect[str(defect)] = dict.fromkeys(names, Estimate(None, reason=_no_pixels(truth[anomalous])))
            continue
        exact = exact_metrics(ranks, find_regions(truth[anomalous]), limits)
        images = np.concatenate((normal, anomalous))
        by_defect[str(defect)] = with_intervals(
            {name: exact[name] for name in names},
            counts.select(images),
            types[images],
            limits,
            Sampling(confidence, resamples, seed),
        )
    return by_defect


_RANKED = ("pixel_auroc", "pixel_ap", "pixel_f1max")


def _resampled_metrics(
    truth: Bools, values: Floats, threshold: float | None, names: Sequence[str], sampling: Sampling
) -> dict[str, Estimate]:
    """Those of AP, F1max and F1 that ``names`` lists."""
    if undefined_reason(truth):
        return dict.fromkeys(names, Estimate(None, reason=undefined_reason(truth)))
    best = ranking.f1_max(truth, values)
    alarms = values >= (np.inf if threshold is None else threshold)
    exact = {
        "image_ap": ranking.average_precision(truth, values),
        "image_f1max": None if best is None else best[0],
        "image_f1": ranking.f1(truth, alarms),
    }
    if too_few_reason(truth):
        return {name: Estimate(exact[name], reason=too_few_reason(truth)) for name in names}
    resampled = [
        _metrics_of_resamples(truth, values, alarms, weights)
        for weights in draw_resamples(truth, sampling.resamples, sampling.seed)
    ]
    bounds = perfect_separation(int(truth.sum()), int((~truth).sum()), sampling.confidence)
    is_separated = values[truth].min() > values[~truth].max()
    edges = {
        "image_ap": (bounds.ap(), 1.0) if is_separated else None,
        "image_f1max": (bounds.f1(), 1.0) if is_separated else None,
        "image_f1": _f1_edges(exact["image_f1"], bounds),
    }
    return {
        name: bootstrapped(
            exact[name], np.concatenate([metrics[name] for metrics in resampled]), sampling.confidence, edges[name]
        )
        for name in names
    }


def _metrics_of_resamples(truth: Bools, values: Floats, alarms: Bools, weights: Weights) -> dict[str, Floats]:
    """The metrics of each row of ``weights`` ``(R, N)``, ``(R,)`` each."""
    outcomes = count_outcomes(truth, values, weights)
    tp, fp = weights[:, truth & alarms].sum(1), weights[:, ~truth & alarms].sum(1)
    return {"image_ap": outcomes.ap(), "image_f1max": outcomes.f1_max(), "image_f1": 2 * tp / (truth.sum() + tp + fp)}


def _f1_edges(f1: float | None, bounds: PerfectSeparation) -> tuple[float, float] | None:
    """The interval of an F1 of 1 or 0, which no resample changes."""
    if f1 == 1:
        return bounds.f1(), 1.0
    # No anomaly was detected: at most the share 1 - recall of them ever is, and at best without a false alarm.
    highest = 1 - bounds.recall
    return (0.0, 2 * highest / (1 + highest)) if f1 == 0 else None


def _proportions(truth: Bools, alarms: Bools, confidence: float) -> dict[str, Estimate]:
    """The metrics of decisions that are shares of images."""
    count = ranking.confusion(truth, alarms)
    anomalous, normal = count["tp"] + count["fn"], count["tn"] + count["fp"]
    reason = undefined_reason(truth)
    n_alarms = 0 if reason else count["tp"] + count["fp"]
    return {
        "image_accuracy": proportion(count["tp"] + count["tn"], truth.size, confidence),
        "image_precision": proportion(count["tp"], n_alarms, confidence, reason or "no alarms"),
        "image_recall": proportion(count["tp"], anomalous, confidence, "no anomalous images"),
        "image_specificity": proportion(count["tn"], normal, confidence, "no normal images"),
    }


def _types(anomalous: Bools, defects: Sequence[str]) -> NDArray[Any]:
    """Defect types of the images, `UNTYPED` for anomalous ones without one."""
    types = np.array(defects, dtype=str)
    if types.shape != anomalous.shape:
        raise ValueError(f"defects: got {len(types)} types for {len(anomalous)} images, need one for each")
    return np.where(anomalous & (types == ""), UNTYPED, types)


def _strata(types: NDArray[Any]) -> NDArray[Any]:
    _, inverse, counts = np.unique(types, return_inverse=True, return_counts=True)
    # A type of one image would be the same in every resample, as if it were known for certain.
    return np.where((counts[inverse] < 2) & (types != ""), "the rest", types)


def _no_pixels(masks: Bools) -> str:
    if not masks.size:
        return "no images"
    return "no defect-free pixels" if masks.any() else "no defect pixels"
