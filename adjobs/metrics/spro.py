"""sPRO: how much of each defect is covered, up to the area at which it counts as detected (MVTec LOCO AD).

Definition as in Bergmann et al. (IJCV 2022) and its evaluation code. A defect is one channel of the ground truth, in however
many pieces. If a fraction of it would prove it (one of two surplus pushpins), its saturation is smaller than its area:
sPRO = min(predicted pixels of the defect / saturation, 1), averaged over all defects. False positives are counted over the
pixels that are free in all channels, normal images included. Maps must have the size of the ground truth. The benchmark
reports the mean of two areas up to 0.05: logical anomalies with all normal images, and structural ones with all normal images.

The evaluation code decides by ``score > threshold``, this package by ``score >= threshold``: over all thresholds the curve is
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adjobs.metrics.inputs import Bools, Floats, check_pixel_scores
from adjobs.metrics.order import rank
from adjobs.metrics.region import Curve, area_under, check_limit, polyline

LIMIT = 0.05  # the limit that the benchmark reports
_STEP = 0.001  # of the evaluation code
_FIRST = 500  # thresholds of the first pass
_SPLIT = 64  # steps that replace one that is too wide
_POOL, _PER_IMAGE = 1 << 16, 1 << 8  # scores that the first thresholds are taken from, in all and from each image


class Defect(NamedTuple):
    """One defect of an image: ``pixels`` ``(H, W)`` bool, and the area in pixels, up to its own, that counts as all of it."""

    pixels: Bools
    saturation: float


class _Image(NamedTuple):
    """Scores ``(H, W)``, the union of its defects ``(H, W)``, and the defects."""

    anomaly_map: NDArray[Any]
    mask: Bools
    defects: Sequence[Defect]


Maps = Sequence[NDArray[Any]] | NDArray[Any]
Stream = Callable[[], Iterable[tuple[NDArray[Any], Sequence[Defect]]]]


def au_spro(maps: Maps, defects: Sequence[Sequence[Defect]], limit: float = LIMIT) -> float | None:
    """Area under the sPRO curve from false-positive rate 0 to ``limit``, divided by ``limit``, in [0, 1], exact.

    Args:
        maps: N images of floating-point scores, ``(H, W)`` each.
        defects: of each image; none for normal images.
        limit: largest false-positive rate, in (0, 1].

    Returns:
        None without defects or without defect-free pixels.

    Raises:
        ValueError: ``limit`` out of range, or maps and defects that do not fit together.
    """
    check_limit(limit)
    curve = spro_curve(maps, defects)
    return None if curve is None else area_under(curve, limit)


def spro_curve(maps: Maps, defects: Sequence[Sequence[Defect]]) -> Curve | None:
    """The sPRO curve at all thresholds; see `au_spro`."""
    images = [_checked(anomaly_map, of_image) for anomaly_map, of_image in zip(maps, defects, strict=True)]
    ranks = rank([image.anomaly_map for image in images], [image.mask for image in images])
    if ranks is None:
        return None
    gains = np.zeros(len(ranks.thresholds))
    start = 0
    for image in images:
        levels = np.zeros(image.mask.shape, dtype=np.intp)
        stop = start + int(image.mask.sum())
        levels[image.mask] = ranks.inverse[start:stop]
        start = stop
        for defect in image.defects:
            # The pixel of the defect with the highest score adds 1 / saturation, the next as much, until it is saturated.
            joining = np.sort(levels[defect.pixels])[::-1]
            covered = np.minimum(np.arange(joining.size + 1) / defect.saturation, 1.0)
            np.add.at(gains, joining, np.diff(covered))
    return polyline(ranks, gains / sum(len(image.defects) for image in images))


def stream_au_spro(images: Stream, limit: float = LIMIT, step: float = _STEP) -> float | None:
    """As `au_spro`, for test sets at a resolution that does not fit into memory; see `stream_spro_curve`."""
    curve = stream_spro_curve(images, limit, step)
    return None if curve is None else area_under(curve, limit)


def stream_spro_curve(images: Stream, limit: float = LIMIT, step: float = _STEP) -> Curve | None:
    """The sPRO curve at as many thresholds as it takes, one image in memory at a time.

    As in the evaluation code, thresholds are added until neighbours on the curve differ by at most ``step`` in both
    coordinates, or have no score between them. Here each pass over the images splits every step that is too wide into many, in
    the order of floating-point numbers, whatever the scale of the scores.

    Args:
        images: called for each pass, gives ``(map, defects)`` of each image, always the same.
        limit: largest false-positive rate of interest, in (0, 1]; the curve is not refined beyond it.
        step: largest step, above 0. The error of the area is less than half of it, and mostly far less.

    Returns:
        None without defects or without defect-free pixels.
    """
    check_limit(limit)
    if not step > 0:
        raise ValueError(f"step: got {step}, allowed are numbers above 0, such as {_STEP}")
    thresholds = _first_thresholds(images, limit)
    if thresholds is None:
        return None
    points = _count(images, thresholds)
    while True:
        added = _between(thresholds, points, limit, step)
        if not added.size:
            break
        order = np.argsort(np.concatenate((thresholds, added)))
        points = np.concatenate((points, _count(images, added)))[order]
        thresholds = np.concatenate((thresholds, added))[order]
    fpr, overlap = points[::-1].T
    return Curve(np.concatenate(([0.0], fpr, [1.0])), np.concatenate(([0.0], overlap, [1.0])))


def _first_thresholds(images: Stream, limit: float) -> NDArray[Any] | None:
    """The lowest and the highest score and some between, ascending; None without defects or without defect-free pixels."""
    free, defect = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.float32)
    ends: list[Any] = []
    for anomaly_map, mask, _ in _each(images):
        free, defect = _pooled(free, anomaly_map[~mask]), _pooled(defect, anomaly_map[mask])
        ends = (
            [min(anomaly_map.min(), *ends[:1]), max(anomaly_map.max(), *ends[1:])]
            if ends
            else [anomaly_map.min(), anomaly_map.max()]
        )
    if not free.size or not defect.size:
        return None
    shares = np.linspace(0, 1, _FIRST)
    quantiles = (np.quantile(free, 1 - limit * shares, method="nearest"), np.quantile(defect, shares, method="nearest"))
    return np.unique(np.concatenate((ends, *quantiles))).astype(np.result_type(free, defect), copy=False)


def _pooled(pool: NDArray[Any], scores: NDArray[Any]) -> NDArray[Any]:
    """The pool with evenly spaced scores of another image; every second one is dropped whenever it is full."""
    joined = np.concatenate((pool, scores[:: scores.size // _PER_IMAGE | 1]))
    return np.sort(joined)[::2] if joined.size > _POOL else joined


def _count(images: Stream, thresholds: NDArray[Any]) -> Floats:
    """False-positive rate and mean sPRO at each of the ascending thresholds, ``(K, 2)``."""
    false_positives, overlap = np.zeros(len(thresholds), dtype=np.int64), np.zeros(len(thresholds))
    n_free = n_defects = 0
    for anomaly_map, mask, defects in _each(images):
        free = anomaly_map[~mask]
        n_free += free.size
        n_defects += len(defects)
        false_positives += _reaching(free[free >= thresholds[0]], thresholds)
        for defect in defects:
            overlap += np.minimum(_reaching(anomaly_map[defect.pixels], thresholds) / defect.saturation, 1.0)
    return np.stack((false_positives / n_free, overlap / n_defects), axis=1)


def _reaching(scores: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.int64]:
    return scores.size - np.sort(scores).searchsorted(thresholds)


def _between(thresholds: NDArray[Any], points: Floats, limit: float, step: float) -> NDArray[Any]:
    """New thresholds within the steps that are too wide and start below the limit; none if there is no such step."""
    wide = (np.abs(np.diff(points, axis=0)) > step).any(1) & (points[1:, 0] < limit)
    keys = _keys(thresholds)
    low, width = keys[:-1][wide], np.diff(keys)[wide]
    steps = np.arange(1, _SPLIT, dtype=np.uint64)[:, None]
    inner = low + width // _SPLIT * steps + width % _SPLIT * steps // _SPLIT
    # A step may be all at its lower end, where many scores tie. The next number above shows whether it is.
    added = np.unique(np.concatenate((low + np.uint64(1), inner.ravel())))
    return _scores(added[~np.isin(added, keys)], thresholds.dtype)


def _keys(scores: NDArray[Any]) -> NDArray[np.uint64]:
    """Integers in the order of the scores, one apart for neighbouring floating-point numbers."""
    bits = scores.view(f"u{scores.itemsize}")
    sign = bits.dtype.type(1 << (8 * scores.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign).astype(np.uint64)


def _scores(keys: NDArray[np.uint64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The scores of the keys."""
    bits = keys.astype(f"u{dtype.itemsize}")
    sign = bits.dtype.type(1 << (8 * dtype.itemsize - 1))
    return np.where(bits & sign, bits & ~sign, ~bits).view(dtype)


def _each(images: Stream) -> Iterator[_Image]:
    return (_checked(anomaly_map, defects) for anomaly_map, defects in images())


def _checked(anomaly_map: NDArray[Any], defects: Sequence[Defect]) -> _Image:
    union = np.zeros(np.shape(anomaly_map), dtype=bool)
    for pixels, saturation in defects:
        if np.shape(pixels) != union.shape or pixels.dtype != np.bool_:
            raise ValueError(f"defect: got {pixels.dtype} {np.shape(pixels)}, need bool of its map's shape {union.shape}")
        area = np.count_nonzero(pixels)
        if not 0 < saturation <= area:
            raise ValueError(f"saturation: got {saturation}, allowed are areas above 0 and up to the defect's own, {area} pixels")
        union |= pixels
    scores, mask = check_pixel_scores(np.asarray(anomaly_map)[None], union[None])
    return _Image(scores[0], mask[0], defects)
