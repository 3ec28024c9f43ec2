"""What labelling an image would teach: how near it is to the threshold, and how unlike the images that are known.

Both are ranks among images, in [0, 1], so that they can be added whatever a method's scores look like.
"""

from __future__ import annotations

import numpy as np
import torch

from adjobs.nn.neighbours import nearest_neighbours

NEAR = 0.1
"""Share of the images between an image's score and the threshold at which its nearness falls to 1/e."""


def rank(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Share of the reference below each value, of equals one half; ``(N,)`` in [0, 1]."""
    ordered = np.sort(reference)
    low, high = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    shares: np.ndarray = (low + high) / (2 * len(ordered))
    return shares


def nearness(scores: np.ndarray, threshold: float, validation: np.ndarray) -> np.ndarray:
    """How near scores are to the threshold, ``(N,)`` in (0, 1]: by the share of images whose scores lie in between.

    Args:
        scores: ``(N,)``.
        threshold: of the detector.
        validation: ``(V,)`` scores of validation images, which count as images in between, too; may be empty.
    """
    everything = np.concatenate([scores, validation])
    gap = np.abs(rank(scores, everything) - rank(np.array([threshold]), everything))
    between = np.maximum(gap - 0.5 / len(everything), 0)  # without half of the image itself
    near: np.ndarray = np.exp(-between / NEAR)
    return near


def novelty(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How unlike the known images are, ``(N,)`` in [0, 1]: the rank of the distance to the nearest known image.

    It is ranked among the distances of all N images, and those of the known images from each other.

    Args:
        features: ``(N, D)``.
        known: ``(K, D)``; without any, images are compared with each other.
    """
    distances = nearest_distances(features, known) if len(known) else nearest_distances(features)
    return rank(distances, np.concatenate([distances, nearest_distances(known)]))


def nearest_distances(features: np.ndarray, bank: np.ndarray | None = None) -> np.ndarray:
    """Distance of each row to the nearest row of the bank, or to the nearest other row without a bank.

    Args:
        features: ``(N, D)``.
        bank: ``(M, D)``, at least one row, or None.

    Returns:
        ``(N,)``; 0 where there is no other row.
    """
    if bank is None and len(features) < 2:
        return np.zeros(len(features), dtype=np.float32)
    queries = torch.from_numpy(features)
    if bank is not None:
        nearest = nearest_neighbours(queries, torch.from_numpy(bank), 1)
    else:
        own = torch.arange(len(features))
        nearest = nearest_neighbours(queries, queries, 1, query_groups=own, bank_groups=own)
    distances: np.ndarray = nearest.distances[:, 0].numpy()
    return distances
