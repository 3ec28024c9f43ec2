"""Stratified bootstrap over images: what the metrics would be on test sets like this one.

A resample draws, within each stratum (normal images, anomalous images), as many images as there are, with replacement. It is
a row of weights, how often each image was drawn, so that a thousand resamples are a few operations on arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adjobs.metrics.inputs import Bools, Floats

Seed = int | np.random.Generator
Weights = NDArray[np.int64]
ROUNDING = 1e-12  # values as close as this are the same but for rounding
_BLOCK = 1 << 22  # weights at a time: 32 MiB, whatever the number of images


class Sampling(NamedTuple):
    """Confidence of the intervals, in (0, 1), number of resamples, above 0, and their seed."""

    confidence: float
    resamples: int
    seed: Seed


class Outcomes(NamedTuple):
    """Anomalous and normal images that alarm at the K distinct scores in descending order, ``(B, K)`` of B resamples."""

    true_alarms: Weights
    false_alarms: Weights

    def auroc(self) -> Floats:
        """Area under each ROC curve, ties counted half, ``(B,)``."""
        # Normal images that reach the score of an anomaly: those above it in full, those that tie with it by half.
        gains = np.diff(self.true_alarms, axis=1, prepend=0)
        n_above = self.false_alarms - np.diff(self.false_alarms, axis=1, prepend=0) / 2
        misordered: Floats = (gains * n_above).sum(1) / (self.true_alarms[:, -1] * self.false_alarms[:, -1])
        return 1 - misordered

    def ap(self) -> Floats:
        """Average precision, ``(B,)``."""
        gains = np.diff(self.true_alarms, axis=1, prepend=0)
        ap: Floats = (gains * self.precision()).sum(1) / self.true_alarms[:, -1]
        return ap

    def f1_max(self) -> Floats:
        """Best F1 of any threshold, ``(B,)``."""
        best: Floats = (2 * self.true_alarms / (self.true_alarms[:, -1:] + self.true_alarms + self.false_alarms)).max(1)
        return best

    def precision(self) -> Floats:
        """Share of anomalies among those that reach each score, ``(B, K)``; 1 where none does."""
        alarms = self.true_alarms + self.false_alarms
        return np.where(alarms > 0, self.true_alarms / np.maximum(alarms, 1), 1.0)

    def recall(self) -> Floats:
        """Share of the anomalies that reach each score, ``(B, K)``."""
        return self.true_alarms / self.true_alarms[:, -1:]

    def fpr(self) -> Floats:
        """Share of the normal images that reach each score, ``(B, K)``."""
        return self.false_alarms / self.false_alarms[:, -1:]


def draw_resamples(strata: NDArray[Any], count: int, seed: Seed) -> Iterator[Weights]:
    """Draw ``count`` resamples.

    Args:
        strata: ``(N,)`` the stratum of each image: equal values are one stratum.
        count: number of resamples, above 0.
        seed: of the generator, or the generator itself.

    Yields:
        Weights ``(B, N)`` of B resamples at a time, B x N bounded.
    """
    rng = np.random.default_rng(seed)
    _, inverse = np.unique(strata, return_inverse=True)
    groups = [np.flatnonzero(inverse == group) for group in range(inverse.max() + 1)]
    size = max(1, _BLOCK // len(strata))
    for start in range(0, count, size):
        n_drawn = min(size, count - start)
        weights = np.zeros((n_drawn, len(strata)), dtype=np.int64)
        for group in groups:
            drawn = rng.integers(len(group), size=(n_drawn, len(group))) + len(group) * np.arange(n_drawn)[:, None]
            weights[:, group] = np.bincount(drawn.ravel(), minlength=n_drawn * len(group)).reshape(n_drawn, -1)
        yield weights


def count_outcomes(truth: Bools, scores: Floats, weights: Weights) -> Outcomes:
    """Count the resamples ``weights`` ``(B, N)`` of images with the labels and scores ``(N,)``."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # the last of each run of ties
    drawn = weights[:, order]
    true_alarms = np.cumsum(drawn * truth[order], axis=1)[:, ends]
    return Outcomes(true_alarms, np.cumsum(drawn, axis=1)[:, ends] - true_alarms)


def percentiles(values: Floats, confidence: float) -> tuple[Floats, Floats]:
    """The ends of the middle ``confidence`` of ``values`` ``(R, ...)``, along the first axis; NaN are left out."""
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(values, (tail, 1 - tail), axis=0)
    return low, high
