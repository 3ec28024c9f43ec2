"""Two detection rates on the same images: exact unconditional limits of their difference, and the power to see one.

Only images on which the models disagree count. The statistic is the score statistic of Tango (1998). Up to `MAX_EXACT` images
its p-value is exact: the largest over the share of images that only the second model detects, which the hypothesis leaves open
(Suissa and Shuster 1991 for equal rates, Hsueh, Liu and Chen 2001 for a margin). Beyond, it is the normal approximation
with a continuity correction of one image, without which up to 5.6 % of the tests with an error of 5 % reject.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from adjobs.metrics.inputs import Floats

MAX_EXACT = 200
"""Images; with so many a limit takes about half a second."""

MAX_NEEDED = 100_000
"""Images; beyond, no number is stated."""

_GRID = 64  # values of the open share
_STEPS = 16  # halvings of a limit's bracket: 2 / 2**16 = 0.00003
_NO_SHARE = 1e-300
_ROUNDING = 1e-9  # statistics as close as this are equal but for rounding


class Disagreement(NamedTuple):
    """Of ``n`` images, above 0, those that only the first model detects, and those that only the second one does."""

    first_only: int
    second_only: int
    n: int

    @property
    def difference(self) -> float:
        """Detection rate of the first model minus that of the second."""
        return (self.first_only - self.second_only) / self.n

    @property
    def swapped(self) -> Disagreement:
        """The same with the models exchanged."""
        return Disagreement(self.second_only, self.first_only, self.n)


@lru_cache(maxsize=4096)
def p_value(counts: Disagreement, difference: float) -> float:
    """One-sided p-value of the hypothesis that the rates' difference is at most ``difference``, in (-1, 1)."""
    observed = _statistic(np.array([counts.first_only]), np.array([counts.second_only]), counts.n, difference)[0]
    if counts.n > MAX_EXACT:
        distance = counts.first_only - counts.second_only - counts.n * difference
        return float(special.ndtr(-observed * max(1 - 1 / distance, 0.0) if distance > 0 else -observed))
    first, second = _tables(counts.n)
    extreme = _statistic(first, second, counts.n, difference) >= observed - _ROUNDING
    return float(_probabilities(counts.n, difference, extreme).sum(0).max())


@lru_cache(maxsize=4096)
def lower_limit(counts: Disagreement, alpha: float, anchor: float) -> float:
    """One-sided lower limit of the rates' difference with error ``alpha``.

    Args:
        counts: how the models disagree.
        alpha: error of the limit, in (0, 0.5].
        anchor: a difference, in (-1, 1), on whose side the limit is by `p_value` itself: the limit is at least ``anchor`` if and
            only if the test of ``anchor`` rejects.
    """
    low, high = -1.0, max(counts.difference, -1.0)
    if p_value(counts, anchor) <= alpha:
        low = anchor
    else:
        high = min(high, anchor)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if p_value(counts, middle) <= alpha else (low, middle)
    return low


def upper_limit(counts: Disagreement, alpha: float, anchor: float) -> float:
    """One-sided upper limit, at most ``anchor`` if and only if the test against it rejects; see `lower_limit`."""
    return -lower_limit(counts.swapped, alpha, -anchor)


@lru_cache(maxsize=4096)
def power(n: int, first_only: float, second_only: float, alpha: float, difference: float = 0.0) -> float:
    """Probability that the test of ``difference`` rejects.

    Args:
        n: images, above 0.
        first_only: true share that only the first model detects.
        second_only: true share that only the second one detects; the two sum to at most 1.
        alpha: error of the test.
        difference: of the hypothesis, in (-1, 1).
    """
    if n > MAX_EXACT:
        return _approximate_power(n, first_only, second_only, alpha, difference)
    region = _critical_region(n, alpha, difference)
    return float(_trinomial(n, np.array([first_only]), np.array([second_only]), region).sum())


def detectable_gain(n: int, second_only: float, alpha: float, probability: float) -> float | None:
    """The smallest gain that the test of no gain sees with ``probability``; None if it sees none, however large.

    Args:
        n: images.
        second_only: assumed true share that only the second model detects; the first one alone detects this share and the gain.
        alpha: error of the test.
        probability: the power, in (0, 1).
    """
    high = 1 - 2 * second_only
    if n < 1 or power(n, high + second_only, second_only, alpha) < probability:
        return None
    return _smallest(lambda gain: power(n, gain + second_only, second_only, alpha) >= probability, 0.0, high)


def needed_images(gain: float, second_only: float, alpha: float, probability: float) -> int | None:
    """The number of images from which the test of no gain sees ``gain`` with ``probability``; None above `MAX_NEEDED`."""

    def is_enough(n: int) -> bool:
        return power(n, gain + second_only, second_only, alpha) >= probability

    gain = min(gain, 1 - 2 * second_only)
    if not is_enough(MAX_NEEDED):
        return None
    low, high = 0, 8
    while not is_enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _smallest(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest number in (low, high] that holds, to three decimals."""
    while high - low > 5e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _statistic(first: NDArray[Any], second: NDArray[Any], n: int, difference: float) -> Floats:
    """Tango's score statistic of ``difference``, larger the more the first model is ahead."""
    a, b = 2.0 * n, -first - second + (2 * n - first + second) * difference
    c = -second * difference * (1 - difference)
    share = (np.sqrt(np.maximum(b * b - 4 * a * c, 0)) - b) / (2 * a)  # most likely share that only the second detects
    variance = n * (2 * share + difference * (1 - difference))
    distance = first - second - n * difference
    return np.where(variance > _ROUNDING, distance / np.sqrt(np.maximum(variance, _ROUNDING)), 0.0)


@lru_cache(maxsize=256)
def _critical_region(n: int, alpha: float, difference: float) -> NDArray[np.bool_]:
    """Of all tables of ``n`` images, those for which the test of ``difference`` rejects."""
    statistics = _statistic(*_tables(n), n, difference)
    order = np.argsort(-statistics, kind="stable")
    sorted_statistics = statistics[order]
    tails = _probabilities(n, difference, order).cumsum(0).max(1)
    ends = np.searchsorted(-sorted_statistics, -sorted_statistics + _ROUNDING, side="right") - 1  # ties reject together
    region = np.zeros(len(order), dtype=np.bool_)
    region[order] = tails[ends] <= alpha
    return region


def _probabilities(n: int, difference: float, selected: NDArray[Any]) -> Floats:
    """Of the ``selected`` tables, the probability at each value of the open share, ``(T, G)``."""
    second_only = np.linspace(max(0.0, -difference), (1 - difference) / 2, _GRID)
    return _trinomial(n, np.maximum(second_only + difference, 0.0), second_only, selected)


def _trinomial(n: int, first_only: Floats, second_only: Floats, selected: NDArray[Any]) -> Floats:
    """Probability of the ``selected`` tables of ``n`` images, ``(T, G)``, for G pairs of true shares."""
    shares = np.stack((first_only, second_only, np.maximum(1 - first_only - second_only, 0.0)))
    logarithms = np.log(np.maximum(shares, _NO_SHARE))  # an impossible table underflows to 0, 0 of an impossible share is 1
    counts, log_ways = _counts(n)
    probabilities: Floats = np.exp(counts[selected] @ logarithms + log_ways[selected, None])
    return probabilities


@cache
def _tables(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of disagreements that sum to at most ``n``, ``(T,)`` each."""
    first, second = np.indices((n + 1, n + 1)).reshape(2, -1)
    possible = first + second <= n
    return first[possible], second[possible]


@cache
def _counts(n: int) -> tuple[Floats, Floats]:
    """Of each table, how many images only the first, only the second, and both or neither detect, ``(T, 3)``; log of its ways."""
    first, second = _tables(n)
    counts = np.stack((first, second, n - first - second), axis=1).astype(np.float64)
    return counts, special.gammaln(n + 1) - special.gammaln(counts + 1).sum(1)


def _approximate_power(n: int, first_only: float, second_only: float, alpha: float, difference: float) -> float:
    """By the normal approximation of Connor (1987), with the variance of each hypothesis."""
    gain, disagreeing = first_only - second_only, first_only + second_only
    # What the statistic takes for the variance under the hypothesis, in the limit of many images.
    scale = 10**9
    at_truth = _statistic(np.array([first_only * scale]), np.array([second_only * scale]), scale, difference)[0]
    if gain == difference:
        return alpha
    error_if_equal = abs(gain - difference) * math.sqrt(scale) / max(abs(at_truth), 1e-12)
    error = math.sqrt(max(disagreeing - gain * gain, 1e-12))
    distance = (gain - difference - 1 / n) * math.sqrt(n) + special.ndtri(alpha) * error_if_equal
    return float(special.ndtr(distance / error))
