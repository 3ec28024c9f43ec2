"""Choose images that are valuable and differ from each other."""

from __future__ import annotations

import numpy as np

_SAMPLE = 1000  # images whose distances from each other give the scale of distances


def select_diverse(values: np.ndarray, features: np.ndarray, count: int, weight: float) -> np.ndarray:
    """Select images one by one: the most valuable first, then always that of the largest value × distance^weight.

    The distance is that to the nearest image selected before, in units of the median distance between images, and at most
    1: what is far enough away is not preferred to what is valuable. Of equals the first is taken.

    Args:
        values: ``(N,)``, not negative.
        features: ``(N, D)``.
        count: at most N.
        weight: 0 takes the most valuable images, whatever they show.

    Returns:
        ``(count,)`` int64 indices, in order of selection.
    """
    scale = _median_distance(features)
    distances = np.full(len(values), np.inf)
    selected = np.empty(count, dtype=np.int64)
    for i in range(count):
        gains = values * np.minimum(distances / scale, 1.0) ** weight
        gains[selected[:i]] = -1
        selected[i] = gains.argmax()
        distances = np.minimum(distances, np.linalg.norm(features - features[selected[i]], axis=1))
    return selected


def _median_distance(features: np.ndarray) -> float:
    """Median distance between images; 1 where all are equal."""
    sample = features[np.linspace(0, len(features) - 1, min(len(features), _SAMPLE)).astype(int)].astype(np.float64)
    squares = (sample**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * sample @ sample.T, 0))
    between = distances[np.triu_indices(len(sample), 1)]
    return float(np.median(between)) or 1.0 if len(between) else 1.0
