"""A two-sample test that allows a share of the recent images to be anomalous.

Recent images may hold up to the share ε of anomalous ones, whose scores G may be anything: F₁ = (1 − ε) F₀ + ε G, with F₀ the
distribution of the reference. Whatever G is, F₁ ≥ (1 − ε) F₀. The statistic is the area of the violation,

    T = mean over the reference of max(0, (1 − ε) F₀ − F₁),

the one-sided statistic of Schmid and Trede (1996), "Testing for first-order stochastic dominance", The Statistician 45, with the
allowance. T rises when any recent value rises, so that its distribution is largest when all anomalous images lie above all
reference images. There it depends on no distribution, and is drawn: the level holds at every sample size, for exchangeable
images. No library's test has this allowance; without it, all of them reject as soon as enough recent images have the defects that
the detector is there for.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from adjobs.metrics.inputs import Bools, Floats

POWER = 0.8
"""Probability with which a shift is called detectable."""

_CHUNK = 1_000_000  # numbers drawn at a time
_REPEATS = 400  # simulated samples for a power; its standard error is 0.02 at 0.8
_LARGEST_SHIFT = 8.0  # standard deviations
_BISECTIONS = 7
_ROUNDING = 1e-9


class Direction(NamedTuple):
    """One-sided p-values: of recent values that are higher, and lower, than those of the reference."""

    higher: float
    lower: float

    @property
    def two_sided(self) -> float:
        """Of any change: twice the smaller one, at most 1."""
        return min(1.0, 2 * min(self))


class DominanceTest(NamedTuple):
    """The test for given numbers of images.

    Attributes:
        n_reference: values of the reference.
        n_recent: recent values.
        share: largest share of anomalous recent images that is allowed, in [0, 1).
        null: ``(R,)`` statistics drawn under the hypothesis, ascending.
    """

    n_reference: int
    n_recent: int
    share: float
    null: Floats

    @classmethod
    def draw(cls, n_reference: int, n_recent: int, share: float, draws: int, generator: np.random.Generator) -> Self:
        """Draw the distribution of the statistic; 1 / (``draws`` + 1) is the smallest p-value."""
        rows = max(1, _CHUNK // (n_reference + 1))
        sizes = [min(rows, draws - start) for start in range(0, draws, rows)]
        null = np.concatenate([_draw_null(n_reference, n_recent, share, size, generator) for size in sizes])
        return cls(n_reference, n_recent, share, np.sort(null))

    def p_values(self, reference: Floats, recent: Floats, generator: np.random.Generator) -> Direction:
        """P-values of ``(n_reference,)`` and ``(n_recent,)`` values; ties are broken at random, which keeps the level."""
        return Direction(*(self._p_value(sign * reference, sign * recent, generator) for sign in (1, -1)))

    def p_higher(self, reference: Floats, recent: Floats, generator: np.random.Generator) -> float:
        """The p-value of higher recent values alone."""
        return self._p_value(reference, recent, generator)

    def critical(self, level: float) -> float:
        """What the statistic must exceed for a p-value of at most ``level``; infinite if it cannot be reached."""
        allowed = int(np.floor(level * (len(self.null) + 1) + _ROUNDING)) - 1
        return float(self.null[-1 - allowed]) if allowed >= 0 else np.inf

    def detectable_shift(self, level: float, generator: np.random.Generator) -> float | None:
        """The smallest shift that is seen with probability `POWER`, in standard deviations of normally distributed values.

        Args:
            level: of the one-sided test.
            generator: for the simulated samples, of which none is anomalous.

        Returns:
            None if even values that are far apart would not be.
        """
        reference = generator.standard_normal((_REPEATS, self.n_reference))
        recent = generator.standard_normal((_REPEATS, self.n_recent))
        critical = self.critical(level)

        def is_seen(shift: float) -> bool:
            return float(np.mean(_statistics(reference, recent + shift, self.share) > critical + _ROUNDING)) >= POWER

        low, high = 0.0, _LARGEST_SHIFT
        if not is_seen(high):
            return None
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if is_seen(middle) else (middle, high)
        return high

    def _p_value(self, reference: Floats, recent: Floats, generator: np.random.Generator) -> float:
        values = np.concatenate([reference, recent])
        ranks = np.empty(len(values))
        ranks[np.lexsort((generator.random(len(values)), values))] = np.arange(len(values))
        statistic = _statistics(ranks[None, : len(reference)], ranks[None, len(reference) :], self.share)[0]
        at_least = len(self.null) - np.searchsorted(self.null, statistic - _ROUNDING)
        return float((1 + at_least) / (len(self.null) + 1))


def _draw_null(n_reference: int, n_recent: int, share: float, draws: int, generator: np.random.Generator) -> Floats:
    """Statistics of samples of which each recent image is anomalous, and above all others, with probability ``share``."""
    gaps = generator.standard_exponential((draws, n_reference + 1))  # between the order statistics of uniform values, times a sum
    normal = generator.binomial(n_recent, 1 - share, draws)
    between = generator.multinomial(normal, gaps / gaps.sum(1, keepdims=True))
    return _excess(between[:, :-1].cumsum(1), n_recent, share)


def _statistics(reference: Floats, recent: Floats, share: float) -> Floats:
    """The statistic of each row of ``(R, n)`` and ``(R, m)`` values without ties."""
    n = reference.shape[1]
    order = np.argsort(np.concatenate([reference, recent], axis=1), axis=1)
    is_recent: Bools = order >= n
    below = is_recent.cumsum(1)[~is_recent].reshape(len(reference), n)
    return _excess(below, recent.shape[1], share)


def _excess(below: np.ndarray, n_recent: int, share: float) -> Floats:
    """T from ``(R, n)`` numbers of recent values below each value of the reference, in its order."""
    n = below.shape[1]
    expected = (1 - share) * (np.arange(n) + 0.5) / n
    excess: Floats = np.maximum(0, expected - below / n_recent).mean(1)
    return excess
