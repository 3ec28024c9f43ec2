"""All measures of a test set with their intervals, by name: what a run logs.

What is undefined is an `Estimate` without a value that says why. It is never 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adjobs.metrics import CONFIDENCE, ranking
from adjobs.metrics.binned import DEFAULT_LIMIT, count_pixels, pro_name, size_name
from adjobs.metrics.bootstrap import Sampling, Seed, Weights, draws, outcomes
from adjobs.metrics.inputs import Bools, Floats, image_scores, pixel_scores
from adjobs.metrics.intervals import Estimate, Perfect, auroc_interval, bootstrapped, few, perfect, proportion, undefined
from adjobs.metrics.order import FreePixels, rank
from adjobs.metrics.pixel_intervals import MARKED, exact_measures, marked_measures, with_intervals
from adjobs.metrics.region import SIZES, check_limit, find_regions, with_defects

UNTYPED = "untyped"


def image_measures(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float | None,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: Seed = 0,
) -> dict[str, Estimate]:
    """AUROC, AP, F1max, and at the threshold F1, accuracy, precision, sensitivity, specificity of images.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, finite.
        threshold: an image is called anomalous when its score is at least that; None leaves out what needs one. It should
            have been chosen without these images, or the intervals are too narrow.
        confidence: of the intervals, in (0, 1).
        resamples: of the bootstrap for AP, F1 and F1max.
        seed: of the bootstrap, or its generator.

    Returns:
        By the names ``image_auroc``, ``image_ap``, ``image_f1max``, ``image_f1``, ``image_accuracy``, ``image_precision``,
        ``image_recall`` and ``image_specificity``.
    """
    truth, values = image_scores(labels, scores)
    sampling = Sampling(confidence, resamples, seed)
    found = {"image_auroc": auroc_interval(truth, values, confidence)}
    names = ["image_ap", "image_f1max"] if threshold is None else ["image_ap", "image_f1max", "image_f1"]
    found |= _resampled_images(truth, values, threshold, names, sampling)
    return found if threshold is None else found | _proportions(truth, values >= threshold, confidence)


def defect_measures(
    labels: ArrayLike,
    scores: ArrayLike,
    defects: Sequence[str],
    threshold: float | None,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: Seed = 0,
) -> dict[str, dict[str, Estimate]]:
    """How well each type of defect is told from all good images.

    Args:
        labels: ``(N,)``, 0 or 1.
        scores: ``(N,)``, finite.
        defects: N types. Anomalous images without one are of type `UNTYPED`; those of good images are not looked at.
        threshold: as for `image_measures`.
        confidence: of the intervals, in (0, 1).
        resamples: of the bootstrap for AP.
        seed: of the bootstrap, or its generator.

    Returns:
        By type, in alphabetical order: ``image_auroc``, ``image_ap``, and with a threshold ``image_recall``.

    Raises:
        ValueError: the lengths differ, or labels or scores are none.
    """
    truth, values = image_scores(labels, scores)
    types = np.where(truth, _types(truth, defects), "")
    sampling = Sampling(confidence, resamples, seed)
    found = {}
    for type_ in np.unique(types[truth]):
        rows = ~truth | (types == type_)
        one = {"image_auroc": auroc_interval(truth[rows], values[rows], confidence)}
        one |= _resampled_images(truth[rows], values[rows], None, ["image_ap"], sampling)
        if threshold is not None:
            alarms = values[types == type_] >= threshold
            one["image_recall"] = proportion(int(alarms.sum()), alarms.size, confidence)
        found[str(type_)] = one
    return found


def pixel_summary(  # noqa: PLR0913 - all but the first three by name
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
    """All pixel measures. The values are exact; the intervals are of a bootstrap over images (see `binned`).

    Args:
        maps: ``(N, H, W)`` floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels.
        threshold: a pixel is marked when its score is at least that; None leaves out what needs one.
        defects: N types of defect. With them each type is resampled apart, so that every resample has the same mix; types
            of which there is one image are resampled together.
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
    scores, truth = pixel_scores(maps, masks)
    sampling = Sampling(confidence, resamples, seed)
    regions = find_regions(truth)
    ranks = rank(scores, truth)
    if ranks is None:
        names = [*_RANKED, *map(pro_name, limits), *map(size_name, SIZES), *([] if threshold is None else MARKED)]
        return dict.fromkeys(names, Estimate(None, reason=_no_pixels(truth)))
    anomalous = with_defects(truth)
    strata = anomalous.astype(str) if defects is None else _strata(_types(anomalous, defects))
    counts = count_pixels(scores, truth, regions)
    found = with_intervals(exact_measures(ranks, regions, limits), counts, strata, limits, sampling)
    return found if threshold is None else found | marked_measures(scores, truth, threshold, strata, sampling)


def pixel_by_defect(
    maps: ArrayLike,
    masks: ArrayLike,
    defects: Sequence[str],
    *,
    limits: Sequence[float] = (DEFAULT_LIMIT,),
    confidence: float = CONFIDENCE,
    resamples: int = 1000,
    seed: Seed = 0,
) -> dict[str, dict[str, Estimate]]:
    """Pixel AP and AU-PRO of each type of defect, on its images and the good ones.

    Args:
        maps: ``(N, H, W)`` floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels.
        defects: N types, "" for good images. Images with defect pixels but no type are of type `UNTYPED`.
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
    scores, truth = pixel_scores(maps, masks)
    types = _types(with_defects(truth), defects)
    good = np.flatnonzero(types == "")
    free = FreePixels([scores[i] for i in good], [truth[i] for i in good])  # sorted once for all types
    counts = count_pixels(scores, truth) if truth.any() else None
    names = ["pixel_ap", *map(pro_name, limits)]
    found = {}
    for type_ in np.unique(types[types != ""]):
        own = np.flatnonzero(types == type_)
        ranks = rank([scores[i] for i in own], [truth[i] for i in own], beside=free)
        if ranks is None or counts is None:
            found[str(type_)] = dict.fromkeys(names, Estimate(None, reason=_no_pixels(truth[own])))
            continue
        rows = np.concatenate((good, own))
        exact = {name: value for name, value in exact_measures(ranks, find_regions(truth[own]), limits).items() if name in names}
        sampling = Sampling(confidence, resamples, seed)
        found[str(type_)] = with_intervals(exact, counts.of(rows), types[rows], limits, sampling)
    return found


_RANKED = ("pixel_auroc", "pixel_ap", "pixel_f1max")


def _resampled_images(
    truth: Bools, values: Floats, threshold: float | None, names: Sequence[str], sampling: Sampling
) -> dict[str, Estimate]:
    """AP, F1max and F1, those of them that ``names`` names."""
    missing = undefined(truth)
    if missing:
        return dict.fromkeys(names, Estimate(None, reason=missing))
    best = ranking.f1_max(truth, values)
    alarms = values >= (np.inf if threshold is None else threshold)
    exact = {
        "image_ap": ranking.average_precision(truth, values),
        "image_f1max": None if best is None else best[0],
        "image_f1": ranking.f1(truth, alarms),
    }
    lone = few(truth)
    if lone:
        return {name: Estimate(exact[name], reason=lone) for name in names}
    rows = [_image_rows(truth, values, alarms, weights) for weights in draws(truth, sampling.resamples, sampling.seed)]
    bounds = perfect(int(truth.sum()), int((~truth).sum()), sampling.confidence)
    separate = values[truth].min() > values[~truth].max()
    edges = {
        "image_ap": (bounds.ap(), 1.0) if separate else None,
        "image_f1max": (bounds.f1(), 1.0) if separate else None,
        "image_f1": _f1_edges(exact["image_f1"], bounds),
    }
    return {
        name: bootstrapped(exact[name], np.concatenate([row[name] for row in rows]), sampling.confidence, edges[name])
        for name in names
    }


def _image_rows(truth: Bools, values: Floats, alarms: Bools, weights: Weights) -> dict[str, Floats]:
    """The measures of each row of ``weights`` ``(R, N)``, ``(R,)`` each."""
    result = outcomes(truth, values, weights)
    found, false = weights[:, truth & alarms].sum(1), weights[:, ~truth & alarms].sum(1)
    return {"image_ap": result.ap(), "image_f1max": result.f1_max(), "image_f1": 2 * found / (truth.sum() + found + false)}


def _f1_edges(f1: float | None, bounds: Perfect) -> tuple[float, float] | None:
    """The interval of an F1 of 1 or 0, which no resample changes."""
    if f1 == 1:
        return bounds.f1(), 1.0
    # Not one anomaly was found: at most the share 1 - found of them ever is, and at best without a false alarm.
    seen = 1 - bounds.found
    return (0.0, 2 * seen / (1 + seen)) if f1 == 0 else None


def _proportions(truth: Bools, alarms: Bools, confidence: float) -> dict[str, Estimate]:
    """F1 aside, what is a share of images: right decisions, alarms that are right, anomalies found, good images passed."""
    count = ranking.confusion(truth, alarms)
    anomalous, normal = count["tp"] + count["fn"], count["tn"] + count["fp"]
    raised = count["tp"] + count["fp"]
    missing = undefined(truth)
    return {
        "image_accuracy": proportion(count["tp"] + count["tn"], truth.size, confidence),
        "image_precision": proportion(count["tp"], 0 if missing else raised, confidence, missing or "no alarms"),
        "image_recall": proportion(count["tp"], anomalous, confidence, "no anomalous images"),
        "image_specificity": proportion(count["tn"], normal, confidence, "no good images"),
    }


def _types(anomalous: Bools, defects: Sequence[str]) -> NDArray[Any]:
    """Types of the images, `UNTYPED` for anomalous ones without."""
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
