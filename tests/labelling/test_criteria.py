from __future__ import annotations

import numpy as np
import pytest

from adjobs.labelling.criteria import NEAR, nearest_distances, nearness, novelty, rank


def test_rank_counts_equals_one_half():
    assert rank(np.array([0.0, 1.0, 1.5, 9.0]), np.array([3.0, 1.0, 1.0, 2.0])).tolist() == [0, 0.25, 0.5, 1]


def test_nearness_is_the_share_of_images_between_score_and_threshold():
    # In order: 1, 2, threshold 2.5, 3, 100: one image lies between the threshold and 1, or 100, none up to 2 or 3.
    near = nearness(np.array([1.0, 2, 3, 100]), 2.5, np.empty(0))
    assert near == pytest.approx(np.exp(-np.array([0.25, 0, 0, 0.25]) / NEAR))


def test_nearness_does_not_depend_on_the_scale_of_scores():
    scores, validation = np.array([0.1, 0.4, 0.6, 0.9]), np.array([0.2, 0.3, 0.8])
    assert np.array_equal(nearness(scores, 0.5, validation), nearness(np.exp(9 * scores), np.exp(4.5), np.exp(9 * validation)))


def test_nearness_validation_images_count_as_images_in_between():
    scores = np.array([1.0, 3.0])
    assert nearness(scores, 2.0, np.array([1.5] * 10))[0] < nearness(scores, 2.0, np.empty(0))[0]


def test_novelty_ranks_distances_among_those_of_the_known_images():
    known = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]], dtype=np.float32)  # each 1 from the nearest other
    novel = novelty(np.array([[0.1, 0], [3, 9]], dtype=np.float32), known)
    assert novel == pytest.approx([0.5 / 6, 5.5 / 6])


def test_novelty_without_known_images_compares_images_with_each_other():
    features = np.array([[0.0], [0.1], [0.2], [5.0]], dtype=np.float32)
    assert novelty(features, np.empty((0, 1), dtype=np.float32)).argmax() == 3


def test_nearest_distances_one_image_is_0():
    assert nearest_distances(np.ones((1, 3), dtype=np.float32)).tolist() == [0]
