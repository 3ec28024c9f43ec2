"""Paired differences: against the definition, against each other, and as often wrong as they say."""

import numpy as np
import pytest

from adjobs.metrics import ranking
from adjobs.evaluation.compare import compare, compare_auroc
from tests.metrics.test_intervals import sample, slow_covariance

NAMES = {
    "image_auroc": ranking.auroc,
    "image_ap": ranking.average_precision,
    "image_f1max": lambda labels, scores: ranking.f1_max(labels, scores)[0],
}


def pair(seed, m=25, n=40, gain=0.0):
    """Scores of two models that agree by half; the second is better by ``gain``."""
    labels, a = sample(seed, m, n)
    noise = np.random.default_rng(seed + 10**6).normal(size=(2, m + n))
    return labels, a + 0.7 * noise[0], a + 0.7 * noise[1] + gain * labels


def test_auroc_difference_is_delongs():
    labels, a, b = pair(0)
    found = compare_auroc(labels, a, b, confidence=0.9)
    areas, covariance = slow_covariance(labels == 1, np.stack((a, b)))
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.value == pytest.approx(areas[0] - areas[1])
    assert found.high - found.low == pytest.approx(2 * 1.6448536 * error)
    # At a confidence of 1 - p the interval ends at 0.
    ends = compare_auroc(labels, a, b, confidence=1 - found.p_value)
    assert min(abs(ends.low), abs(ends.high)) == pytest.approx(0, abs=1e-12)


def test_bootstrap_agrees_with_delong():
    labels, a, b = pair(1, 100, 150, gain=0.3)
    closed, drawn = compare_auroc(labels, a, b), compare("image_auroc", labels, a, b)
    assert drawn.value == pytest.approx(closed.value)
    assert (drawn.low, drawn.high) == pytest.approx((closed.low, closed.high), abs=0.006)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_and_its_function_give_the_same(name):
    labels, a, b = pair(2, 8, 9)
    one = compare(name, labels, a, b, resamples=60, seed=3)
    assert compare(NAMES[name], labels, a, b, resamples=60, seed=3)[:4] == pytest.approx(one[:4])


@pytest.mark.parametrize("name", NAMES)
def test_swapping_the_models_turns_the_sign(name):
    labels, a, b = pair(3)
    there, back = compare(name, labels, a, b), compare(name, labels, b, a)
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))
    assert back.p_value == pytest.approx(there.p_value)


def test_decisions_are_compared_by_any_measure_of_them():
    labels, a, b = pair(4, 60, 60, gain=2)
    found = compare(ranking.accuracy, labels, a > 0.6, b > 0.6, resamples=300)
    assert found.high < 0
    assert found.p_value == pytest.approx(2 / 301)


def test_models_that_are_equally_good_are_rarely_told_apart():
    """400 test sets: p below 0.1 in about a tenth of them."""
    wrong = np.mean([compare_auroc(*pair(seed)).p_value < 0.1 for seed in range(400)])
    assert 0.05 < wrong < 0.15


def test_a_better_model_is_told_apart():
    labels, a, b = pair(5, 60, 90, gain=1)
    for found in (compare_auroc(labels, b, a), *(compare(name, labels, b, a) for name in NAMES)):
        assert 0 < found.low < found.value < found.high
        assert found.p_value < 0.05


def test_the_same_model_differs_by_nothing():
    labels, a, _ = pair(6)
    for found in (compare_auroc(labels, a, a), compare("image_ap", labels, a, a), compare_auroc(labels, a, np.exp(a))):
        assert found == (0.0, 0.0, 0.0, 1.0, "")


@pytest.mark.parametrize("name", NAMES)
def test_two_perfect_models_may_differ_by_what_so_few_images_cannot_show(name):
    labels = np.repeat([1, 0], [20, 30])
    a, b = labels + 0.0, labels * np.linspace(1, 2, 50)
    found = compare(name, labels, a, b)
    assert (found.value, found.p_value) == (0, 1)
    assert 0 < found.high == -found.low < 0.6
    if name == "image_auroc":
        assert compare_auroc(labels, a, b)[1:3] == found[1:3]
        assert (1 - found.high) ** 20 == pytest.approx(0.0125)  # half of 5 % for each model, one-sided


def test_without_variation_there_is_no_interval():
    labels = np.repeat([1, 0], [5, 5])
    for found in (compare_auroc(labels, labels, -labels), compare("image_ap", labels, labels, -labels)):
        assert found.value > 0
        assert (found.low, found.high, found.p_value) == (None, None, None)
        assert found.reason == "the difference does not vary between images"


@pytest.mark.parametrize(
    ("labels", "value", "reason"),
    [
        ([], None, "no images"),
        ([0, 0, 0], None, "no anomalous images"),
        ([1, 1, 1], None, "no good images"),
        ([0, 0, 1], -1, "fewer than 2 anomalous images"),
        ([0, 1, 1], -1, "fewer than 2 good images"),
    ],
)
def test_undefined_differences_say_why(labels, value, reason):
    b = np.arange(len(labels))
    for found in (compare_auroc(labels, -b, b), compare("image_auroc", labels, -b, b)):
        assert found == (value, None, None, None, reason)


def test_a_measure_that_is_undefined():
    assert compare(ranking.precision, [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]).reason == "the measure is undefined"
    rare = compare(lambda truth, scores: None if len(set(scores)) < 4 else 1.0, [0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1])
    assert rare == (0.0, None, None, None, "undefined in most resamples")


def test_faults_are_refused():
    with pytest.raises(ValueError, match="measure: got 'auroc', allowed are image_auroc, image_ap, image_f1max or a function"):
        compare("auroc", [0, 1], [1, 2], [1, 2])
    for call in (compare_auroc, lambda *case: compare("image_ap", *case)):
        with pytest.raises(ValueError, match="scores: 1 of 2 values are NaN"):
            call([0, 1], [1, 2], [1, np.nan])
        with pytest.raises(ValueError, match="labels and scores: got shapes"):
            call([0, 1], [1, 2], [1, 2, 3])
