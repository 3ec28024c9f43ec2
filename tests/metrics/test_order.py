"""Ranks of defect pixels among defect-free ones."""

import numpy as np

from adjobs.metrics.order import FreePixels, exceedances, rank
from tests.helpers.scores import random_maps


def test_rank_beside_sorted_pixels_matches_joint_ranks():
    """Ranks beside the normal images' pixels are those of all images together."""
    maps, masks = random_maps(4)
    maps = np.round(2 * maps) / 2  # ties
    normal, anomalous = [0, 1], [8, 9]
    free = FreePixels(maps[normal], masks[normal])
    beside = rank(maps[anomalous], masks[anomalous], beside=free)
    together = rank(maps[normal + anomalous], masks[normal + anomalous])
    for a, b in zip(beside, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rank_without_both_classes_is_none():
    maps = np.zeros((2, 3, 3), dtype=np.float32)
    assert rank(maps, np.zeros(maps.shape, dtype=bool)) is None
    assert rank(maps, np.ones(maps.shape, dtype=bool)) is None


def test_exceedances_counts_scores_above_and_at_thresholds():
    above, reaching = exceedances(np.array([3.0, 1.0, 2.0, 2.0]), np.array([0.5, 2.0, 3.5]))
    assert above.tolist() == [4, 1, 0]
    assert reaching.tolist() == [4, 3, 0]
