"""Where to cut: thresholds for scores of good and of anomalous things, images or pixels; ``score >= cut`` is an alarm.

A cut is one of the scores, or the next number above one. Of equally good cuts the highest is taken, which raises the
fewest alarms. The arrays are one-dimensional and of one floating type; those said to be sorted are sorted in place, which
spares a copy of millions of pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adjobs.metrics.order import exceedances

Array = NDArray[Any]


def best_f1(good: Array, anomalous: Array) -> float:
    """The cut with the best F1 = 2 found / (anomalous + alarms). ``good`` is sorted, ``anomalous`` is not empty."""
    cuts, found, alarms = _outcomes(good, anomalous)
    # Division rounds correctly, so that equal fractions stay equal.
    return float(cuts[np.argmax(2 * found / (anomalous.size + found + alarms))])


def least_cost(good: Array, anomalous: Array, miss: float) -> float:
    """The cut with the least miss x misses + false alarms; above all scores where no alarm is worth its price.

    Args:
        good: sorted.
        anomalous: not empty.
        miss: cost of a miss over the cost of a false alarm, above 0.
    """
    cuts, found, alarms = _outcomes(good, anomalous)
    costs = np.concatenate(([miss * anomalous.size], miss * (anomalous.size - found) + alarms))
    best = int(np.argmin(costs))
    if best == 0:
        highest = max(cuts[0], good[-1]) if good.size else cuts[0]
        return just_above(highest, good, anomalous)
    return float(cuts[best - 1])


def lowest_passing(good: Array, alarms: int, *others: Array) -> float:
    """The lowest cut at which at most so many of ``good`` raise an alarm; ``good`` is reordered.

    Args:
        good: not empty.
        alarms: fewer than there are good ones.
        others: further scores, which the cut is compared with in their precision, too.
    """
    place = good.size - 1 - alarms
    good.partition(place)
    return just_above(good[place], good, *others)


def nearest_share(scores: Array, share: float) -> float:
    """The cut at which the share of alarms among ``scores``, which are reordered, comes nearest to ``share`` in (0, 1)."""
    wanted = share * scores.size
    place = scores.size - max(1, round(wanted))
    scores.partition(place)
    cut = scores[place]
    above, reaching = int((scores > cut).sum()), int((scores >= cut).sum())
    return float(cut) if reaching - wanted < wanted - above else just_above(cut, scores)


def allowed_alarms(share: float, n: int) -> int:
    """The most alarms among n whose share, computed as count / n, is at most ``share`` in [0, 1)."""
    count = int(share * n) + 1  # 0.29 * 100 is 28.999999999999996, and 29 / 100 is 0.29
    while count / n > share:
        count -= 1
    return count


def just_above(score: float, *scores: Array) -> float:
    """The next number above ``score`` in the precision that all ``scores`` have.

    Scores computed in float32 get a float32 threshold: NumPy and PyTorch compare a float32 array with a Python float in
    float32, where a threshold one float64 step above a score is that score, and the image would raise an alarm.
    """
    if all(map(_is_single, scores)):
        return float(np.nextafter(np.float32(score), np.float32(np.inf)))
    return float(np.nextafter(np.float64(score), np.inf))


def _is_single(scores: Array) -> bool:
    if scores.dtype == np.float32:
        return True
    with np.errstate(over="ignore"):
        return np.array_equal(scores.astype(np.float32), scores)


def _outcomes(good: Array, anomalous: Array) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """All cuts worth a thought, in descending order, with how many anomalous ones each finds, and its false alarms.

    These are the scores of the anomalous ones: a cut between two of them finds no more than the upper one, and raises no
    fewer false alarms.
    """
    cuts, counts = np.unique(anomalous, return_counts=True)
    _, alarms = exceedances(good, cuts)
    return cuts[::-1], np.cumsum(counts[::-1]), alarms[::-1]
