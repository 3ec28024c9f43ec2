"""Metrics of the order of scores (AUROC, AP, F1max), and of decisions already made."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from adjobs.metrics.inputs import Bools, Floats, check_image_decisions, check_image_scores, check_pixel_scores
from adjobs.metrics.order import rank


class RocCurve(NamedTuple):
    """Arrays ``(K,)`` in descending order of ``thresholds``, of which the first is infinite (no alarm at all)."""

    fpr: Floats
    tpr: Floats
    thresholds: Floats


class PrCurve(NamedTuple):
    """Arrays ``(K,)`` in ascending order of ``thresholds``, all distinct scores; at the first, every image alarms."""

    precision: Floats
    recall: Floats
    thresholds: Floats


class PixelRanking(NamedTuple):
    """Area under the ROC curve and average precision over all pixels of all images; None where a class is missing."""

    auroc: float | None
    ap: float | None


def auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve, in [0, 1]: how often an anomaly outranks a normal image, ties counted half."""
    truth, values = check_image_scores(labels, scores)
    return float(_sklearn().roc_auc_score(truth, values)) if _both_classes(truth) else None


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Average precision, in (0, 1]: the sum of precision times gain in recall, without interpolation."""
    truth, values = check_image_scores(labels, scores)
    return float(_sklearn().average_precision_score(truth, values)) if _both_classes(truth) else None


def f1_max(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float] | None:
    """The best F1 of any threshold on these same images, hence optimistic, and that threshold.

    Returns:
        ``(F1, threshold)`` for the decision ``score >= threshold``, or None where a class is missing. The threshold is
        one of the scores; of several equally good ones it is the highest, which raises the fewest alarms.
    """
    truth, values = check_image_scores(labels, scores)
    if not _both_classes(truth):
        return None
    thresholds, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    anomalies = np.bincount(inverse, weights=truth, minlength=len(thresholds))
    # F1 = 2 tp / (anomalies + alarms). Division rounds correctly, so that equal fractions stay equal.
    f1_descending = 2 * np.cumsum(anomalies[::-1]) / (truth.sum() + np.cumsum(counts[::-1]))
    best = int(np.argmax(f1_descending))
    return float(f1_descending[best]), float(thresholds[::-1][best])


def confusion(labels: ArrayLike, decisions: ArrayLike) -> dict[str, int]:
    """Count the four outcomes: ``tn`` normal images passed, ``fp`` false alarms, ``fn`` anomalies missed, ``tp`` detected."""
    truth, alarms = check_image_decisions(labels, decisions)
    return {
        "tn": int((~truth & ~alarms).sum()),
        "fp": int((~truth & alarms).sum()),
        "fn": int((truth & ~alarms).sum()),
        "tp": int((truth & alarms).sum()),
    }


def f1(labels: ArrayLike, decisions: ArrayLike) -> float | None:
    """Harmonic mean of precision and recall of the anomalous class, in [0, 1]; None where a class is missing."""
    count = confusion(labels, decisions)
    if not _both_counted(count):
        return None
    return 2 * count["tp"] / (2 * count["tp"] + count["fp"] + count["fn"])


def macro_f1(labels: ArrayLike, decisions: ArrayLike) -> float | None:
    """Mean of the F1 of the anomalous and of the normal class, in [0, 1]; None where a class is missing."""
    truth, alarms = check_image_decisions(labels, decisions)
    anomalous, normal = f1(truth, alarms), f1(~truth, ~alarms)
    return None if anomalous is None or normal is None else (anomalous + normal) / 2


def accuracy(labels: ArrayLike, decisions: ArrayLike) -> float | None:
    """Share of correct decisions, in [0, 1]; None without images."""
    truth, alarms = check_image_decisions(labels, decisions)
    return float((truth == alarms).mean()) if truth.size else None


def precision(labels: ArrayLike, decisions: ArrayLike) -> float | None:
    """Share of the alarms that are anomalies, in [0, 1]; None without alarms or where a class is missing."""
    count = confusion(labels, decisions)
    alarms = count["tp"] + count["fp"]
    return count["tp"] / alarms if alarms and _both_counted(count) else None


def recall(labels: ArrayLike, decisions: ArrayLike) -> float | None:
    """Share of the anomalies that raise an alarm (sensitivity), in [0, 1]; None without anomalies."""
    count = confusion(labels, decisions)
    anomalous = count["tp"] + count["fn"]
    return count["tp"] / anomalous if anomalous else None


def specificity(labels: ArrayLike, decisions: ArrayLike) -> float | None:
    """Share of the normal images that pass, in [0, 1]; None without normal images."""
    count = confusion(labels, decisions)
    normal = count["tn"] + count["fp"]
    return count["tn"] / normal if normal else None


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> RocCurve | None:
    """Points of the ROC curve without those on a straight line between two others; None where a class is missing."""
    truth, values = check_image_scores(labels, scores)
    return RocCurve(*_sklearn().roc_curve(truth, values)) if _both_classes(truth) else None


def pr_curve(labels: ArrayLike, scores: ArrayLike) -> PrCurve | None:
    """Points of the precision-recall curve; None where a class is missing."""
    truth, values = check_image_scores(labels, scores)
    if not _both_classes(truth):
        return None
    precision, recall, thresholds = _sklearn().precision_recall_curve(truth, values)
    # scikit-learn ends with a point (recall 0, precision 1) that belongs to no threshold.
    return PrCurve(precision[:-1], recall[:-1], thresholds)


def pixel_ranking(maps: ArrayLike, masks: ArrayLike) -> PixelRanking:
    """AUROC and AP over all pixels, exact, from one sort.

    Args:
        maps: ``(N, H, W)`` floating-point scores.
        masks: ``(N, H, W)`` bool, True on defect pixels.
    """
    ranks = rank(*check_pixel_scores(maps, masks))
    return PixelRanking(None, None) if ranks is None else PixelRanking(ranks.auroc(), ranks.ap())


def pixel_auroc(maps: ArrayLike, masks: ArrayLike) -> float | None:
    """Area under the ROC curve over all pixels; see `pixel_ranking`, which gives both metrics at the cost of one."""
    return pixel_ranking(maps, masks).auroc


def pixel_ap(maps: ArrayLike, masks: ArrayLike) -> float | None:
    """Average precision over all pixels; see `pixel_ranking`, which gives both metrics at the cost of one."""
    return pixel_ranking(maps, masks).ap


def _both_classes(truth: Bools) -> bool:
    return bool(truth.any() and not truth.all())


def _both_counted(count: dict[str, int]) -> bool:
    return count["tp"] + count["fn"] > 0 and count["tn"] + count["fp"] > 0


def _sklearn() -> Any:
    """Scikit-learn's metrics, imported where needed: a worker that evaluates nothing starts two seconds sooner."""
    from sklearn import metrics

    return metrics
