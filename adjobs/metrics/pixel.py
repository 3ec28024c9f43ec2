"""All exact pixel metrics from one sort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from numpy.typing import ArrayLike

from adjobs.metrics.inputs import check_pixel_scores
from adjobs.metrics.order import rank
from adjobs.metrics.region import Curve, area_under, check_limit, find_regions, pro_from_ranks


class PixelMetrics(NamedTuple):
    """Metrics over all pixels of all images; None without defect pixels or without defect-free ones.

    Attributes:
        auroc: area under the ROC curve, in [0, 1].
        ap: average precision, in (0, 1].
        f1_max: the best F1 of any threshold on these same pixels, hence optimistic, in (0, 1].
        f1_max_threshold: the highest threshold that reaches it.
        au_pro: by limit, the normalised area under the PRO curve, in [0, 1].
        pro: the PRO curve.
    """

    auroc: float | None
    ap: float | None
    f1_max: float | None
    f1_max_threshold: float | None
    au_pro: Mapping[float, float | None]
    pro: Curve | None


def exact_pixel_metrics(
    maps: ArrayLike, masks: ArrayLike, limits: Sequence[float] = (0.3,), device: str | None = None
) -> PixelMetrics:
    """Pixel AUROC, AP, best F1, PRO curve and AU-PRO, exact, at the cost of one sort.

    Args:
        maps: ``(N, H, W)`` floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels.
        limits: largest false-positive rates of AU-PRO, in (0, 1].
        device: where to sort; None: see :class:`adjobs.metrics.order.FreePixels`.

    Raises:
        ValueError: a limit out of range, or maps and masks that do not fit together or are not finite.
    """
    for limit in limits:
        check_limit(limit)
    scores, truth = check_pixel_scores(maps, masks)
    ranks = rank(scores, truth, device=device)
    if ranks is None:
        return PixelMetrics(None, None, None, None, dict.fromkeys(limits), None)
    curve = pro_from_ranks(ranks, find_regions(truth))
    areas = {limit: None if curve is None else area_under(curve, limit) for limit in limits}
    return PixelMetrics(ranks.auroc(), ranks.ap(), *ranks.f1_max(), areas, curve)
