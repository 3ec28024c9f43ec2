"""AU-PRO: how much of each defect region is covered, against the share of defect-free pixels that raise an alarm.

Per-region overlap (PRO) weighs a small scratch as much as a large stain, which the pixel AUROC does not. Definition as
in the evaluation code of MVTec AD (Bergmann et al., IJCV 2021): regions are 8-connected components of the ground truth,
false positives are counted over the defect-free pixels of all images, normal ones included, and the curve is integrated
up to a false-positive rate of 0.3. Nothing is resized here: callers decide the size of the maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from adjobs.metrics.inputs import Bools, Floats, check_pixel_scores
from adjobs.metrics.order import Ranks, rank

# Sizes of regions as shares of the image's area: from the first number up to, but not including, the second.
SIZES: Mapping[str, tuple[float, float]] = {"small": (0.0, 0.001), "medium": (0.001, 0.01), "large": (0.01, np.inf)}
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class Curve(NamedTuple):
    """A polyline from (0, 0) to false-positive rate 1: ``(K,)`` each, both ascending; ``fpr`` repeats where it is vertical."""

    fpr: Floats
    overlap: Floats


class Regions(NamedTuple):
    """The R defect regions of N images, and the D defect pixels in the order of ``maps[masks]``.

    Attributes:
        numbers: ``(D,)`` region of each pixel, 0 to R - 1.
        areas: ``(R,)`` pixels of each region.
        shares: ``(R,)`` areas as shares of the image, in (0, 1].
        images: ``(R,)`` the image each lies in.
    """

    numbers: NDArray[np.intp]
    areas: NDArray[np.int64]
    shares: Floats
    images: NDArray[np.intp]

    def of_size(self, size: str) -> Bools:
        """Which regions have that one of `SIZES`, ``(R,)``."""
        low, high = SIZES[size]
        return (self.shares >= low) & (self.shares < high)


def find_regions(masks: Bools) -> Regions:
    """Number the regions of the masks ``(N, H, W)``."""
    numbers, images, n_regions = [np.empty(0, dtype=np.intp)], [], 0
    for image, mask in enumerate(masks):
        if not mask.any():
            continue
        labels, count = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
        numbers.append(labels[mask].astype(np.intp) - 1 + n_regions)
        images.extend([image] * count)
        n_regions += count
    joined = np.concatenate(numbers)
    areas = np.bincount(joined, minlength=n_regions)
    return Regions(joined, areas, areas / max(1, masks[:1].size), np.array(images, dtype=np.intp))


def au_pro(maps: ArrayLike, masks: ArrayLike, limit: float = 0.3) -> float | None:
    """Area under the PRO curve from false-positive rate 0 to ``limit``, divided by ``limit``.

    Args:
        maps: ``(N, H, W)`` floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels.
        limit: largest false-positive rate, in (0, 1].

    Returns:
        A value in [0, 1]; a constant map gives ``limit / 2``. None without defect pixels or without defect-free ones.

    Raises:
        ValueError: ``limit`` out of range, or maps and masks that `pixel_scores` refuses.
    """
    check_limit(limit)
    curve = pro_curve(maps, masks)
    return None if curve is None else area_under(curve, limit)


def pro_curve(maps: ArrayLike, masks: ArrayLike) -> Curve | None:
    """The PRO curve from (0, 0) to (1, 1), exact; None without defect pixels or without defect-free ones.

    Args:
        maps: ``(N, H, W)`` floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels.
    """
    scores, truth = check_pixel_scores(maps, masks)
    ranks = rank(scores, truth)
    return None if ranks is None else pro_from_ranks(ranks, find_regions(truth))


def pro_from_ranks(ranks: Ranks, regions: Regions, selected: Bools | None = None) -> Curve | None:
    """The PRO curve of the ``selected`` regions ``(R,)``, all by default; None if there are none.

    The pixels of other regions count neither as detected nor as false alarms.
    """
    if selected is None:
        selected = np.ones(len(regions.areas), dtype=bool)
    if not selected.any():
        return None
    # What each pixel adds to the mean overlap: 1 / (its region's area x number of regions).
    weights = np.where(selected, 1.0 / regions.areas, 0.0) / selected.sum()
    gains = np.bincount(ranks.inverse, weights=weights[regions.numbers], minlength=len(ranks.thresholds)).astype(np.float64)
    return polyline(ranks, gains)


def polyline(ranks: Ranks, gains: Floats) -> Curve:
    """The curve whose overlap grows by ``gains`` ``(K,)`` at the thresholds of ``ranks``, and which ends at 1.

    The vertices are the thresholds at every distinct score, ties taken at once. Those at which only defect-free
    pixels join lie on a horizontal line and are left out, so that just the two ends of each rise remain.
    """
    # Highest threshold first. Each rise starts where the defect-free pixels above it have joined, ends with its ties.
    after = np.minimum(np.cumsum(gains[::-1]), 1.0)
    after[-1] = 1.0  # the gains sum to 1 but for rounding
    before = np.concatenate(([0.0], after[:-1]))
    fpr = np.stack((ranks.above[::-1], ranks.reaching[::-1]), axis=1).ravel() / ranks.n_free
    overlap = np.stack((before, after), axis=1).ravel()
    return Curve(np.concatenate(([0.0], fpr, [1.0])), np.concatenate(([0.0], overlap, [1.0])))


def area_under(curve: Curve, limit: float) -> float:
    """Area under the curve up to the false-positive rate ``limit``, divided by it, in [0, 1].

    The curve is cut at the limit by linear interpolation.
    """
    check_limit(limit)
    fpr, overlap = curve
    inside = int(np.searchsorted(fpr, limit, side="right"))
    if inside < len(fpr):
        # fpr[inside - 1] <= limit < fpr[inside], so that the slope is finite.
        slope = (overlap[inside] - overlap[inside - 1]) / (fpr[inside] - fpr[inside - 1])
        at_limit = overlap[inside - 1] + slope * (limit - fpr[inside - 1])
        fpr, overlap = np.append(fpr[:inside], limit), np.append(overlap[:inside], at_limit)
    return min(float(np.trapezoid(overlap, fpr)) / limit, 1.0)


def with_defects(masks: Bools) -> Bools:
    """Which of the N images have a defect pixel, ``(N,)``."""
    return np.array([mask.any() for mask in masks], dtype=bool)


def check_limit(limit: float) -> None:
    """Raise ValueError unless ``limit`` is in (0, 1]."""
    if not 0 < limit <= 1:
        raise ValueError(f"limit: got {limit}, allowed are false-positive rates above 0 and up to 1")
