"""AU-PRO: how much of each defect region is covered, against the share of defect-free pixels that raise an alarm.

Per-region overlap (PRO) weighs a small scratch as much as a large stain, which the pixel AUROC does not. Definition as
in the evaluation code of MVTec AD (Bergmann et al., IJCV 2021): regions are 8-connected components of the ground truth,
false positives are counted over the defect-free pixels of all images, good ones included, and the curve is integrated
up to a false-positive rate of 0.3. Nothing is resized here: the size of the maps is decided before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from adjobs.metrics.inputs import Bools, Floats, pixel_scores
from adjobs.metrics.ranking import exceedances

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


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
    if not 0 < limit <= 1:
        raise ValueError(f"limit: got {limit}, allowed are false-positive rates above 0 and up to 1")
    curve = pro_curve(maps, masks)
    if curve is None:
        return None
    fpr, pro = curve
    inside = int(np.searchsorted(fpr, limit, side="right"))
    if inside < len(fpr):
        # fpr[inside - 1] <= limit < fpr[inside], so that the slope is finite.
        slope = (pro[inside] - pro[inside - 1]) / (fpr[inside] - fpr[inside - 1])
        at_limit = pro[inside - 1] + slope * (limit - fpr[inside - 1])
        fpr, pro = np.append(fpr[:inside], limit), np.append(pro[:inside], at_limit)
    return min(float(np.trapezoid(pro, fpr)) / limit, 1.0)


def pro_curve(maps: ArrayLike, masks: ArrayLike) -> tuple[Floats, Floats] | None:
    """The PRO curve as a polyline from (0, 0) to (1, 1).

    The vertices are the thresholds at every distinct score, all ties being taken at once. Those at which only
    defect-free pixels join lie on a horizontal line and are left out, so that just the two ends of each rise remain;
    the line is the same, and only the defect pixels need be sorted together with their regions.

    Args:
        maps: ``(N, H, W)`` floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels.

    Returns:
        ``(fpr, pro)``, ``(K,)`` each, both ascending in [0, 1]; ``fpr`` repeats where the curve is vertical. None
        without defect pixels or without defect-free ones.
    """
    scores, truth = pixel_scores(maps, masks)
    if not truth.any() or truth.all():
        return None
    thresholds, inverse = np.unique(scores[truth], return_inverse=True)
    gains = np.bincount(inverse, weights=_region_weights(truth))
    free = scores[~truth]
    above, reaching = exceedances(free, thresholds)
    # Highest threshold first. Each rise starts where the defect-free pixels above it have joined, ends with its ties.
    after = np.minimum(np.cumsum(gains[::-1]), 1.0)
    after[-1] = 1.0  # the gains sum to 1 but for rounding
    before = np.concatenate(([0.0], after[:-1]))
    fpr = np.stack((above[::-1], reaching[::-1]), axis=1).ravel() / free.size
    pro = np.stack((before, after), axis=1).ravel()
    return np.concatenate(([0.0], fpr, [1.0])), np.concatenate(([0.0], pro, [1.0]))


def _region_weights(masks: Bools) -> Floats:
    """What each defect pixel adds to the mean overlap of the regions: 1 / (its region's area x number of regions).

    Returns:
        ``(D,)`` for the D defect pixels in the order of ``maps[masks]``; their sum is 1.
    """
    shares = []
    n_regions = 0
    for mask in masks:
        if not mask.any():
            continue
        regions, found = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
        numbers = regions[mask]
        shares.append(1.0 / np.bincount(numbers)[numbers])
        n_regions += found
    return np.concatenate(shares) / n_regions
