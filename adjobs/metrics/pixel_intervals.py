"""Exact pixel measures joined with the intervals that a bootstrap over images gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adjobs.metrics.binned import ALL, DEFAULT_LIMIT, Counts, pro_name, size_name
from adjobs.metrics.bootstrap import Sampling, draws
from adjobs.metrics.inputs import Bools, Floats
from adjobs.metrics.intervals import Estimate, bootstrapped
from adjobs.metrics.order import Ranks
from adjobs.metrics.region import SIZES, Regions, area_under, pro_of

MARKED = ("pixel_f1", "pixel_precision", "pixel_recall")
_FEWEST = 2  # images that a bootstrap needs


def exact_measures(ranks: Ranks, regions: Regions, limits: Sequence[float]) -> dict[str, float | None]:
    """The measures without a threshold, all from one sort; None for a size that no region has."""
    curves = {size: pro_of(ranks, regions, regions.of_size(size)) for size in SIZES}
    whole = pro_of(ranks, regions)
    return {
        "pixel_auroc": ranks.auroc(),
        "pixel_ap": ranks.ap(),
        "pixel_f1max": ranks.f1_max()[0],
        **{pro_name(limit): None if whole is None else area_under(whole, limit) for limit in limits},
        **{size_name(size): None if curve is None else area_under(curve, DEFAULT_LIMIT) for size, curve in curves.items()},
    }


def with_intervals(
    exact: Mapping[str, float | None], counts: Counts, strata: NDArray[Any], limits: Sequence[float], sampling: Sampling
) -> dict[str, Estimate]:
    """The measures with intervals from the resampled table, shifted to where the exact measures are."""
    sizes = [size for size in SIZES if exact.get(size_name(size)) is not None]
    whole = counts.measures(np.ones((1, len(strata))), limits, sizes)
    rows = [counts.measures(weights, limits, sizes) for weights in draws(strata, sampling.resamples, sampling.seed)]
    found = {}
    for name, value in exact.items():
        holders = next((table for size, table in counts.regions.items() if name == size_name(size)), counts.regions[ALL])
        images = int((holders > 0).sum())
        if value is None:
            found[name] = Estimate(None, reason="no regions of this size")
        elif images < _FEWEST:
            found[name] = Estimate(value, reason=f"such defects in fewer than {_FEWEST} images")
        else:
            values = np.concatenate([row[name] for row in rows])
            found[name] = bootstrapped(value, values, sampling.confidence, shift=value - float(whole[name][0]))
    return found


def marked_measures(
    maps: NDArray[Any], masks: Bools, threshold: float, strata: NDArray[Any], sampling: Sampling
) -> dict[str, Estimate]:
    """F1, precision and sensitivity of the pixels at a threshold; the counts of the images are exact, so is every resample."""
    table = np.array([_tally(map_, mask, threshold) for map_, mask in zip(maps, masks, strict=True)])
    exact = _marked_rows(table.sum(0, keepdims=True))
    sums = np.concatenate([weights @ table for weights in draws(strata, sampling.resamples, sampling.seed)])
    found = {}
    for name, value, row in zip(MARKED, exact, _marked_rows(sums), strict=True):
        if np.isnan(value[0]):
            found[name] = Estimate(None, reason="no marked pixels")
        elif (table[:, 2] > 0).sum() < _FEWEST:
            found[name] = Estimate(float(value[0]), reason=f"such defects in fewer than {_FEWEST} images")
        else:
            found[name] = bootstrapped(float(value[0]), row, sampling.confidence)
    return found


def _tally(map_: NDArray[Any], mask: Bools, threshold: float) -> tuple[int, int, int]:
    """Marked defect pixels, marked pixels and defect pixels of an image."""
    marked = map_ >= threshold
    return int((marked & mask).sum()), int(marked.sum()), int(mask.sum())


def _marked_rows(sums: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """F1, precision and sensitivity of sums ``(R, 3)`` of what `_tally` counts."""
    hits, marked, defect = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * hits / (marked + defect), hits / marked, hits / defect
