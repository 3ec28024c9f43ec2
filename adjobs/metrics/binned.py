"""Pixel measures of resampled test sets: what each image adds to them at about a thousand thresholds.

To sort all pixels again for each of a thousand resamples is out of the question. But at a given threshold every pixel measure
is made of sums over images, so that a resample is a row of weights times a table. The thresholds are scores: quantiles of
the defect pixels, and of the defect-free ones, evenly and ever closer towards the highest, where AP and AU-PRO are decided.
Only the spread of the measures is taken from the table. The measures themselves are exact, and an interval is shifted by
what the table's own figure for the whole test set is off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adjobs.metrics.inputs import Bools, Floats
from adjobs.metrics.order import pick
from adjobs.metrics.region import SIZES, Regions, find_regions
from adjobs.parallel import in_threads

_THRESHOLDS = 1000
_SAMPLE = 1 << 20  # defect-free pixels that the quantiles are taken from
_RAREST = 1e-5  # false-alarm rate of the highest quantile: 10 pixels of the sample
DEFAULT_LIMIT = 0.3  # of AU-PRO where nothing is said
ALL = "all"

Table = NDArray[np.float32]  # counts of an image's pixels, below 2^24, so exact; sums are rounded to 7 digits


class Counts(NamedTuple):
    """What each of N images adds at B thresholds in descending order.

    Attributes:
        alarms: ``(N, B)`` defect-free pixels that reach the threshold.
        found: ``(N, B)`` defect pixels that reach it.
        overlaps: by `ALL` and by each of `SIZES`, ``(N, B)`` sum over the image's regions of the share that reaches it.
        free: ``(N,)`` defect-free pixels.
        defect: ``(N,)`` defect pixels.
        regions: by `ALL` and by each of `SIZES`, ``(N,)`` regions.
    """

    alarms: Table
    found: Table
    overlaps: Mapping[str, Table]
    free: Table
    defect: Table
    regions: Mapping[str, Table]

    def of(self, images: NDArray[Any]) -> Counts:
        """The same of some images, by index or by mask."""
        return Counts(
            self.alarms[images],
            self.found[images],
            {size: table[images] for size, table in self.overlaps.items()},
            self.free[images],
            self.defect[images],
            {size: table[images] for size, table in self.regions.items()},
        )

    def measures(self, weights: NDArray[Any], limits: Sequence[float], sizes: Sequence[str] = ()) -> dict[str, Floats]:
        """All pixel measures of each row of ``weights`` ``(R, N)``, how often each image was drawn.

        ``(R,)`` each, NaN where undefined, by the names of `adjobs.metrics.summary`; AU-PRO by size is up to `DEFAULT_LIMIT`.
        """
        drawn = weights.astype(np.float32)
        alarms, found = _from_zero(drawn @ self.alarms, drawn @ self.free), _from_zero(drawn @ self.found, drawn @ self.defect)
        defect = found[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            fpr, recall = alarms / alarms[:, -1:], found / defect
            measures = {
                "pixel_auroc": np.trapezoid(recall, fpr, axis=1),
                "pixel_ap": (np.diff(recall, axis=1) * np.nan_to_num(found / (found + alarms))[:, 1:]).sum(1),
                "pixel_f1max": (2 * found / (defect + found + alarms)).max(1),
            }
        overlap = self.overlap(drawn, ALL)
        measures |= {pro_name(limit): areas_under(fpr, overlap, limit) for limit in limits}
        return measures | {size_name(size): areas_under(fpr, self.overlap(drawn, size), DEFAULT_LIMIT) for size in sizes}

    def fpr(self, drawn: Table) -> Floats:
        """Share of the defect-free pixels that reach each threshold, ``(R, B + 2)`` with both ends, for R rows of weights."""
        alarms = _from_zero(drawn @ self.alarms, drawn @ self.free)
        return alarms / alarms[:, -1:]

    def overlap(self, drawn: Table, size: str = ALL) -> Floats:
        """Mean overlap of the regions of a size, likewise; NaN where there are none."""
        overlap = _from_zero(drawn @ self.overlaps[size], drawn @ self.regions[size])
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
        regions: of the masks, if they have been found already.
    """
    known = find_regions(masks) if regions is None else regions
    edges = _thresholds(maps, masks)
    weights = _pixel_weights(known)
    stops = np.cumsum([np.count_nonzero(mask) for mask in masks])

    def count(image: int) -> tuple[NDArray[Any], NDArray[Any], list[NDArray[Any]]]:
        map_, mask = maps[image], masks[image]
        free = np.sort(map_[~mask])
        alarms = free.size - free.searchsorted(edges)
        places = edges.searchsorted(map_[mask], side="right")  # how many of the thresholds the pixel reaches
        own = slice(stops[image] - places.size, stops[image])
        return alarms, _reaching(places, None, len(edges)), [_reaching(places, w[own], len(edges)) for w in weights.values()]

    alarms, found, overlaps = zip(*in_threads(count, range(len(maps)), text="count"), strict=True)
    defect = np.diff(stops, prepend=0)
    chosen = {ALL: np.ones(len(known.areas), dtype=bool)} | {size: known.of_size(size) for size in SIZES}
    return Counts(
        _table(alarms),
        _table(found),
        {size: _table(rows) for size, rows in zip(weights, zip(*overlaps, strict=True), strict=True)},
        (masks[0].size - defect).astype(np.float32),
        defect.astype(np.float32),
        {size: np.bincount(known.images[of], minlength=len(maps)).astype(np.float32) for size, of in chosen.items()},
    )


def areas_under(x: Floats, y: Floats, limit: float) -> Floats:
    """Area under each polyline ``(R, K)`` from x = 0 to ``limit``, divided by it, ``(R,)``. x ascends."""
    left, right = x[:, :-1], x[:, 1:]
    width = np.minimum(right, limit) - np.minimum(left, limit)
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(right > left, width / (right - left), 0)  # of the piece, 1 unless it crosses the limit
    area: Floats = (width * (y[:, :-1] + part * np.diff(y, axis=1) / 2)).sum(1)
    return area / limit


def _thresholds(maps: NDArray[Any], masks: Bools) -> NDArray[Any]:
    """Scores to count at, ascending."""
    defect = np.unique(pick(maps, masks))
    # An odd step does not fall on the same columns of every row.
    step = maps.size // _SAMPLE | 1
    flat = slice(None, None, step)
    free = maps.ravel()[flat][~masks.ravel()[flat]]
    rates = np.concatenate((np.linspace(0, 1, _THRESHOLDS // 4), np.geomspace(_RAREST, 1, _THRESHOLDS // 4)))
    if defect.size > _THRESHOLDS // 2:
        defect = np.quantile(pick(maps, masks), np.linspace(0, 1, _THRESHOLDS // 2), method="nearest")
    found = [np.quantile(free, 1 - rates, method="nearest")] if free.size else []
    return np.unique(np.concatenate((defect, *found))).astype(maps.dtype, copy=False)


def _pixel_weights(regions: Regions) -> dict[str, Floats]:
    """What each defect pixel adds to the overlap of its region, of all regions and of those of each size, ``(D,)`` each."""
    share = 1.0 / regions.areas[regions.numbers]
    return {ALL: share} | {size: share * regions.of_size(size)[regions.numbers] for size in SIZES}


def _reaching(places: NDArray[np.intp], weights: Floats | None, count: int) -> NDArray[Any]:
    """Sum of the weights of the pixels that reach each of ``count`` ascending thresholds."""
    counts = np.bincount(places, weights=weights, minlength=count + 1)
    return np.cumsum(counts[::-1])[::-1][1:]


def _table(rows: Sequence[NDArray[Any]]) -> Table:
    """One row per image, thresholds in descending order."""
    return np.array(rows, dtype=np.float32)[:, ::-1].copy()


def _from_zero(rows: NDArray[Any], totals: NDArray[Any]) -> Floats:
    """The rows from no alarm at all to alarms everywhere."""
    return np.concatenate((np.zeros((len(rows), 1)), rows, totals[:, None]), axis=1)
