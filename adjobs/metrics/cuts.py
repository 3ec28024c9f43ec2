"""Thresholds for scores of normal and of anomalous images or pixels; ``score >= cut`` is an alarm.

A cut is one of the scores, or the next number above one. Of equally good cuts the highest is taken, which raises the
fewest alarms. The arrays are one-dimensional and of one floating type; "sorted" arguments are sorted in place, which saves a
copy of millions of pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adjobs.metrics.order import exceedances

Array = NDArray[Any]


def best_f1(normal: Array, anomalous: Array) -> float:
    """The cut with the best F1 = 2 TP / (anomalous + TP + FP).

    Args:
        normal: sorted.
        anomalous: not empty.
    """
    cuts, true_alarms, false_alarms = _outcomes(normal, anomalous)
    # Division rounds correctly, so that equal fractions stay equal.
    return float(cuts[np.argmax(2 * true_alarms / (anomalous.size + true_alarms + false_alarms))])


def least_cost(normal: Array, anomalous: Array, miss: float) -> float:
    """The cut with the least miss x misses + false alarms; above all scores if no alarm is worth its cost.

    Args:
        normal: sorted.
        anomalous: not empty.
        miss: cost of a miss over the cost of a false alarm, above 0.
    """
    cuts, true_alarms, false_alarms = _outcomes(normal, anomalous)
    costs = np.concatenate(([miss * anomalous.size], miss * (anomalous.size - true_alarms) + false_alarms))
    best = int(np.argmin(costs))
    if best == 0:
        highest = max(cuts[0], normal[-1]) if normal.size else cuts[0]
        return just_above(highest, normal, anomalous)
    return float(cuts[best - 1])


def lowest_passing(normal: Array, alarms: int, *others: Array) -> float:
    """The lowest cut at which at most ``alarms`` of ``normal`` raise an alarm.

    Args:
        normal: not empty; reordered.
        alarms: fewer than there are normal ones.
        others: further scores that the cut will be compared with, in their precision.
    """
    index = normal.size - 1 - alarms
    normal.partition(index)
    return just_above(normal[index], normal, *others)


def nearest_share(scores: Array, share: float) -> float:
    """The cut at which the share of alarms among ``scores``, which are reordered, is nearest to ``share`` in (0, 1)."""
    target = share * scores.size
    index = scores.size - max(1, round(target))
    scores.partition(index)
    cut = scores[index]
    above, reaching = int((scores > cut).sum()), int((scores >= cut).sum())
    return float(cut) if reaching - target < target - above else just_above(cut, scores)


def allowed_alarms(share: float, n: int) -> int:
    """The most alarms among n whose share, computed as count / n, is at most ``share`` in [0, 1)."""
    count = int(share * n) + 1  # 0.29 * 100 is 28.999999999999996, and 29 / 100 is 0.29
    while count / n > share:
        count -= 1
    return count


def just_above(score: float, *scores: Array) -> float:
    """The next number above ``score`` in the precision of all ``scores``.

    Scores computed in float32 get a float32 threshold: NumPy and PyTorch compare a float32 array with a Python float in
    float32, where a threshold one float64 step above a score is that score, and the image would raise an alarm.
    """
    with np.errstate(over="ignore"):  # infinity above the largest number, which callers refuse
        if all(map(_is_single, scores)):
            return float(np.nextafter(np.float32(score), np.float32(np.inf)))
        return float(np.nextafter(np.float64(score), np.inf))


def _is_single(scores: Array) -> bool:
    if scores.dtype == np.float32:
        return True
    with np.errstate(over="ignore"):
        return np.array_equal(scores.astype(np.float32), scores)


def _outcomes(normal: Array, anomalous: Array) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """All cuts that can be best, in descending order, with the true and the false alarms of each.

    These are the scores of the anomalous ones: a cut between two of them detects no more than the upper one, and raises no
    fewer false alarms.
    """
    cuts, counts = np.unique(anomalous, return_counts=True)
    _, false_alarms = exceedances(normal, cuts)
    return cuts[::-1], np.cumsum(counts[::-1]), false_alarms[::-1]
