"""Limits of a difference of AUROCs."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.evaluation.compare import compare_auroc
from adjobs.evaluation.paired_auroc import auroc_difference
from tests.helpers.scores import random_scores


def pair(seed, m=60, n=100, shift=1.2):
    labels, scores = random_scores(seed, m, n, shift)
    noise = np.random.default_rng(seed + 1000).normal(size=(2, m + n)) * 0.6
    return labels == 1, scores + noise[0], scores + noise[1]


def test_difference_far_from_one_agrees_with_delong():
    truth, a, b = pair(0, 300, 300)
    expected, difference = compare_auroc(truth, a, b), auroc_difference(truth, a, b, 0.95)
    assert difference[:3] == pytest.approx(expected[:3], abs=0.002)


def test_difference_near_one_reaches_further_down_than_up():
    truth, a, b = pair(1, 20, 100, 4.0)
    difference = auroc_difference(truth, a - 0.8 * truth, b, 0.9)
    assert difference.low < difference.value < difference.high
    assert difference.value - difference.low > difference.high - difference.value


def test_difference_swapped_models_mirror_each_other():
    truth, a, b = pair(2)
    forward, reverse = auroc_difference(truth, a, b, 0.9), auroc_difference(truth, b, a, 0.9)
    assert (reverse.value, reverse.low, reverse.high) == pytest.approx((-forward.value, -forward.high, -forward.low))


def test_difference_without_errors_is_zero_for_one_model_and_bounded_for_two():
    truth = np.repeat([False, True], [200, 30])
    first, second = truth + np.linspace(0, 0.5, 230), truth + np.linspace(0.5, 0, 230)
    assert auroc_difference(truth, first, first, 0.9)[:3] == (0, 0, 0)
    difference = auroc_difference(truth, first, second, 0.9)
    assert difference.value == 0
    assert -0.2 < difference.low < -0.05
    assert difference.high == pytest.approx(-difference.low)


@pytest.mark.parametrize(("counts", "reason"), [((5, 0), "no anomalous images"), ((5, 1), "fewer than 2 anomalous images")])
def test_difference_of_too_few_images_has_the_reason(counts, reason):
    truth = np.repeat([False, True], counts)
    difference = auroc_difference(truth, np.arange(truth.size) * 1.0, np.arange(truth.size)[::-1] * 1.0, 0.9)
    assert (difference.low, difference.reason) == (None, reason)
    assert auroc_difference(truth, truth * 0.0, truth * 0.0, 0.9).low is None
