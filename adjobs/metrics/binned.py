"""Pixel metrics of resampled test sets: what each image adds to them at about a thousand thresholds.

Sorting all pixels again for each of a thousand resamples would take far too long. But at a given threshold every pixel metric
is made of sums over images, so that a resample is a row of weights times a table. The thresholds are scores: quantiles of
the defect pixels, and of the defect-free ones, evenly and ever closer towards the highest, where AP and AU-PRO are decided.
Only the spread of the metrics is taken from the table. The metrics themselves are exact, and an interval is shifted by the
difference between the exact value of the whole test set and the table's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adjobs.metrics.inputs import Bools, Floats
from adjobs.metrics.order import scores_in_masks
from adjobs.metrics.region import SIZES, Regions, find_regions
from adjobs.parallel import in_threads

_THRESHOLDS = 1000
_SAMPLE = 1 << 20  # defect-free pixels that the quantiles are taken from
_RAREST = 1e-5  # false-alarm rate of the highest quantile: 10 pixels of the sample
DEFAULT_LIMIT = 0.3  # of AU-PRO unless a caller chooses another
ALL = "all"

Table = NDArray[np.float32]  # counts of an image's pixels, below 2^24, so exact; sums are rounded to 7 digits


class Counts(NamedTuple):
    """What each of N images adds at B thresholds in descending order.

    Attributes:
        false_positives: ``(N, B)`` defect-free pixels that reach the threshold.
        true_positives: ``(N, B)`` defect pixels that reach it.
        overlaps: by `ALL` and by each of `SIZES`, ``(N, B)`` sum over the image's regions of the share that reaches it.
        n_free: ``(N,)`` defect-free pixels.
        n_defect: ``(N,)`` defect pixels.
        n_regions: by `ALL` and by each of `SIZES`, ``(N,)`` regions.
    """

    false_positives: Table
    true_positives: Table
    overlaps: Mapping[str, Table]
    n_free: Table
    n_defect: Table
    n_regions: Mapping[str, Table]

    def select(self, images: NDArray[Any]) -> Counts:
        """The counts of some images, by index or by mask."""
        return Counts(
            self.false_positives[images],
            self.true_positives[images],
            {size: table[images] for size, table in self.overlaps.items()},
            self.n_free[images],
            self.n_defect[images],
            {size: counts[images] for size, counts in self.n_regions.items()},
        )

    def metrics(self, weights: NDArray[Any], limits: Sequence[float], sizes: Sequence[str] = ()) -> dict[str, Floats]:
        """All pixel metrics of each row of ``weights`` ``(R, N)``, how often each image was drawn.

        ``(R,)`` each, NaN where undefined, by the names of `adjobs.metrics.summary`; AU-PRO by size is up to `DEFAULT_LIMIT`.
        """
        drawn = weights.astype(np.float32)
        fp = _from_zero(drawn @ self.false_positives, drawn @ self.n_free)
        tp = _from_zero(drawn @ self.true_positives, drawn @ self.n_defect)
        n_defect = tp[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            fpr, recall = fp / fp[:, -1:], tp / n_defect
            metrics = {
                "pixel_auroc": np.trapezoid(recall, fpr, axis=1),
                "pixel_ap": (np.diff(recall, axis=1) * np.nan_to_num(tp / (tp + fp))[:, 1:]).sum(1),
                "pixel_f1max": (2 * tp / (n_defect + tp + fp)).max(1),
            }
        overlap = self.overlap(drawn, ALL)
        metrics |= {pro_name(limit): areas_under(fpr, overlap, limit) for limit in limits}
        return metrics | {size_name(size): areas_under(fpr, self.overlap(drawn, size), DEFAULT_LIMIT) for size in sizes}

    def fpr(self, drawn: Table) -> Floats:
        """Share of the defect-free pixels that reach each threshold, ``(R, B + 2)`` with both ends, for R rows of weights."""
        fp = _from_zero(drawn @ self.false_positives, drawn @ self.n_free)
        return fp / fp[:, -1:]

    def overlap(self, drawn: Table, size: str = ALL) -> Floats:
        """Mean overlap of the regions of a size at each threshold, ``(R, B + 2)``; NaN where there are none."""
        overlap = _from_zero(drawn @ self.overlaps[size], drawn @ self.n_regions[size])
        with np.errstate(invalid="ignore"):
            return overlap / overlap[:, -1:]


def pro_name(limit: float) -> str:
    """The name of AU-PRO up to a false-positive rate."""
    return "au_pro" if limit == DEFAULT_LIMIT else f"au_pro@{limit:g}"


def size_name(size: str) -> str:
    """The name of AU-PRO of the regions of a size."""
    return f"au_pro_{size}"


def count_pixels(maps: NDArray[Any], masks: Bools, regions: Regions | None = None) -> Counts:
    """Count the pixels of each image.

    Args:
        maps: ``(N, H, W)`` finite floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels.
        regions: of the masks; computed if None.
    """
    if regions is None:
        regions = find_regions(masks)
    edges = _thresholds(maps, masks)
    weights = _pixel_weights(regions)
    stops = np.cumsum([np.count_nonzero(mask) for mask in masks])

    def count(image: int) -> tuple[NDArray[Any], NDArray[Any], list[NDArray[Any]]]:
        anomaly_map, mask = maps[image], masks[image]
        free = np.sort(anomaly_map[~mask])
        false_positives = free.size - free.searchsorted(edges)
        levels = edges.searchsorted(anomaly_map[mask], side="right")  # how many of the thresholds the pixel reaches
        pixels = slice(stops[image] - levels.size, stops[image])
        true_positives = _reaching(levels, None, len(edges))
        return false_positives, true_positives, [_reaching(levels, of_size[pixels], len(edges)) for of_size in weights.values()]

    false_positives, true_positives, overlaps = zip(*in_threads(count, range(len(maps)), text="count"), strict=True)
    n_defect = np.diff(stops, prepend=0)
    of_sizes = {ALL: np.ones(len(regions.areas), dtype=bool)} | {size: regions.of_size(size) for size in SIZES}
    images = regions.images
    return Counts(
        _table(false_positives),
        _table(true_positives),
        {size: _table(rows) for size, rows in zip(weights, zip(*overlaps, strict=True), strict=True)},
        (masks[0].size - n_defect).astype(np.float32),
        n_defect.astype(np.float32),
        {size: np.bincount(images[is_in], minlength=len(maps)).astype(np.float32) for size, is_in in of_sizes.items()},
    )


def areas_under(x: Floats, y: Floats, limit: float) -> Floats:
    """Area under each polyline ``(R, K)`` from x = 0 to ``limit``, divided by it, ``(R,)``. x ascends."""
    left, right = x[:, :-1], x[:, 1:]
    width = np.minimum(right, limit) - np.minimum(left, limit)
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.where(right > left, width / (right - left), 0)  # of each segment; 1 unless it crosses the limit
    area: Floats = (width * (y[:, :-1] + fraction * np.diff(y, axis=1) / 2)).sum(1)
    return area / limit


def _thresholds(maps: NDArray[Any], masks: Bools) -> NDArray[Any]:
    """Scores to count at, ascending."""
    defect = np.unique(scores_in_masks(maps, masks))
    # An odd step does not take the same columns of every row.
    step = maps.size // _SAMPLE | 1
    flat = slice(None, None, step)
    free = maps.ravel()[flat][~masks.ravel()[flat]]
    rates = np.concatenate((np.linspace(0, 1, _THRESHOLDS // 4), np.geomspace(_RAREST, 1, _THRESHOLDS // 4)))
    if defect.size > _THRESHOLDS // 2:
        defect = np.quantile(scores_in_masks(maps, masks), np.linspace(0, 1, _THRESHOLDS // 2), method="nearest")
    of_free = [np.quantile(free, 1 - rates, method="nearest")] if free.size else []
    return np.unique(np.concatenate((defect, *of_free))).astype(maps.dtype, copy=False)


def _pixel_weights(regions: Regions) -> dict[str, Floats]:
    """What each defect pixel adds to the overlap of its region, of all regions and of those of each size, ``(D,)`` each."""
    share = 1.0 / regions.areas[regions.numbers]
    return {ALL: share} | {size: share * regions.of_size(size)[regions.numbers] for size in SIZES}


def _reaching(levels: NDArray[np.intp], weights: Floats | None, count: int) -> NDArray[Any]:
    """Sum of the weights of the pixels that reach each of ``count`` ascending thresholds."""
    counts = np.bincount(levels, weights=weights, minlength=count + 1)
    return np.cumsum(counts[::-1])[::-1][1:]


def _table(rows: Sequence[NDArray[Any]]) -> Table:
    """One row per image, thresholds in descending order."""
    return np.array(rows, dtype=np.float32)[:, ::-1].copy()


def _from_zero(rows: NDArray[Any], totals: NDArray[Any]) -> Floats:
    """The rows from no alarm at all to alarms everywhere."""
    return np.concatenate((np.zeros((len(rows), 1)), rows, totals[:, None]), axis=1)
