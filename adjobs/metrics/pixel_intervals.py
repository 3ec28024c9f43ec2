"""Exact pixel metrics joined with the intervals that a bootstrap over images gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adjobs.metrics.binned import ALL, DEFAULT_LIMIT, Counts, count_pixels, pro_name, size_name
from adjobs.metrics.bootstrap import Sampling, draw_resamples
from adjobs.metrics.inputs import Bools, Floats
from adjobs.metrics.intervals import Estimate, bootstrapped
from adjobs.metrics.order import Ranks
from adjobs.metrics.region import SIZES, Regions, area_under, pro_from_ranks

PIXEL_DECISION_METRICS = ("pixel_f1", "pixel_precision", "pixel_recall")
_MIN_IMAGES = 2  # of a bootstrap


def exact_metrics(ranks: Ranks, regions: Regions, limits: Sequence[float]) -> dict[str, float | None]:
    """The metrics without a threshold, all from one sort; None for a size that no region has."""
    curves = {size: pro_from_ranks(ranks, regions, regions.of_size(size)) for size in SIZES}
    curve_of_all = pro_from_ranks(ranks, regions)
    return {
        "pixel_auroc": ranks.auroc(),
        "pixel_ap": ranks.ap(),
        "pixel_f1max": ranks.f1_max()[0],
        **{pro_name(limit): None if curve_of_all is None else area_under(curve_of_all, limit) for limit in limits},
        **{size_name(size): None if curve is None else area_under(curve, DEFAULT_LIMIT) for size, curve in curves.items()},
    }


def with_intervals(
    exact: Mapping[str, float | None], counts: Counts, strata: NDArray[Any], limits: Sequence[float], sampling: Sampling
) -> dict[str, Estimate]:
    """The metrics with intervals from the resampled table, shifted to the exact values."""
    sizes = [size for size in SIZES if exact.get(size_name(size)) is not None]
    binned = counts.metrics(np.ones((1, len(strata))), limits, sizes)
    resampled = [counts.metrics(weights, limits, sizes) for weights in draw_resamples(strata, sampling.resamples, sampling.seed)]
    estimates = {}
    for name, value in exact.items():
        n_regions = next(
            (of_size for size, of_size in counts.n_regions.items() if name == size_name(size)), counts.n_regions[ALL]
        )
        images = int((n_regions > 0).sum())
        if value is None:
            estimates[name] = Estimate(None, reason="no regions of this size")
        elif images < _MIN_IMAGES:
            estimates[name] = Estimate(value, reason=f"such defects in fewer than {_MIN_IMAGES} images")
        else:
            values = np.concatenate([metrics[name] for metrics in resampled])
            estimates[name] = bootstrapped(value, values, sampling.confidence, shift=value - float(binned[name][0]))
    return estimates


def resample_pixel_metric(metric: str, exact: float, maps: NDArray[Any], masks: Bools, resamples: int, seed: int) -> Floats:
    """What a pixel metric would be on other images like these.

    Args:
        metric: ``pixel_auroc``, ``pixel_ap`` or ``au_pro``.
        exact: its value on these images, to which the values of the resamples are shifted.
        maps: ``(N, H, W)`` finite floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels of at least one image.
        resamples: R of the bootstrap.
        seed: of the bootstrap; the resamples of one seed are the same for all maps of the same images.

    Returns:
        Its value in each resample, ``(R,)``, NaN where undefined.
    """
    counts = count_pixels(maps, masks)
    strata = counts.n_defect > 0
    binned = float(counts.metrics(np.ones((1, len(strata))), (DEFAULT_LIMIT,))[metric][0])
    values = [counts.metrics(weights, (DEFAULT_LIMIT,))[metric] for weights in draw_resamples(strata, resamples, seed)]
    return np.concatenate(values) + (exact - binned)


def pixel_decision_metrics(
    maps: NDArray[Any], masks: Bools, threshold: float, strata: NDArray[Any], sampling: Sampling
) -> dict[str, Estimate]:
    """F1, precision and recall of the pixels at a threshold; the counts of the images are exact, so every resample is."""
    table = np.array([_count(anomaly_map, mask, threshold) for anomaly_map, mask in zip(maps, masks, strict=True)])
    exact = _decision_metrics(table.sum(0, keepdims=True))
    sums = np.concatenate([weights @ table for weights in draw_resamples(strata, sampling.resamples, sampling.seed)])
    estimates = {}
    for name, value, values in zip(PIXEL_DECISION_METRICS, exact, _decision_metrics(sums), strict=True):
        if np.isnan(value[0]):
            estimates[name] = Estimate(None, reason="no pixels predicted defective")
        elif (table[:, 2] > 0).sum() < _MIN_IMAGES:
            estimates[name] = Estimate(float(value[0]), reason=f"such defects in fewer than {_MIN_IMAGES} images")
        else:
            estimates[name] = bootstrapped(float(value[0]), values, sampling.confidence)
    return estimates


def _count(anomaly_map: NDArray[Any], mask: Bools, threshold: float) -> tuple[int, int, int]:
    """True positives, predicted defect pixels and true defect pixels of an image."""
    predicted = anomaly_map >= threshold
    return int((predicted & mask).sum()), int(predicted.sum()), int(mask.sum())


def _decision_metrics(sums: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """F1, precision and recall of R resamples from their sums ``(R, 3)`` of the counts of `_count`, ``(R,)`` each."""
    true_positives, predicted, defect = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * true_positives / (predicted + defect), true_positives / predicted, true_positives / defect
