"""Paired differences: against the definition, against each other, and with their nominal error rate."""

import numpy as np
import pytest

from adjobs.evaluation.compare import compare_auroc, compare_metric, compare_resampled
from adjobs.metrics import ranking
from adjobs.metrics.bootstrap import count_outcomes, draw_resamples
from tests.helpers.oracles import slow_covariance
from tests.helpers.scores import random_scores

NAMES = {
    "image_auroc": ranking.auroc,
    "image_ap": ranking.average_precision,
    "image_f1max": lambda labels, scores: ranking.f1_max(labels, scores)[0],
}


def pair(seed, m=25, n=40, gain=0.0):
    """Scores of two models that agree by half; the second is better by ``gain``."""
    labels, a = random_scores(seed, m, n)
    noise = np.random.default_rng(seed + 10**6).normal(size=(2, m + n))
    return labels, a + 0.7 * noise[0], a + 0.7 * noise[1] + gain * labels


def test_compare_auroc_matches_delong_definition():
    labels, a, b = pair(0)
    difference = compare_auroc(labels, a, b, confidence=0.9)
    areas, covariance = slow_covariance(labels == 1, np.stack((a, b)))
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert difference.value == pytest.approx(areas[0] - areas[1])
    assert difference.high - difference.low == pytest.approx(2 * 1.6448536 * error)
    # At a confidence of 1 - p the interval ends at 0.
    ends = compare_auroc(labels, a, b, confidence=1 - difference.p_value)
    assert min(abs(ends.low), abs(ends.high)) == pytest.approx(0, abs=1e-12)


def test_compare_metric_bootstrap_agrees_with_delong():
    labels, a, b = pair(1, 100, 150, gain=0.3)
    delong, bootstrap = compare_auroc(labels, a, b), compare_metric("image_auroc", labels, a, b)
    assert bootstrap.value == pytest.approx(delong.value)
    assert (bootstrap.low, bootstrap.high) == pytest.approx((delong.low, delong.high), abs=0.006)


@pytest.mark.parametrize("name", NAMES)
def test_compare_metric_name_and_function_are_equal(name):
    labels, a, b = pair(2, 8, 9)
    expected = compare_metric(name, labels, a, b, resamples=60, seed=3)
    assert compare_metric(NAMES[name], labels, a, b, resamples=60, seed=3)[:4] == pytest.approx(expected[:4])


@pytest.mark.parametrize("name", NAMES)
def test_compare_metric_swapped_models_change_sign(name):
    labels, a, b = pair(3)
    forward, reverse = compare_metric(name, labels, a, b), compare_metric(name, labels, b, a)
    assert (reverse.value, reverse.low, reverse.high) == pytest.approx((-forward.value, -forward.high, -forward.low))
    assert reverse.p_value == pytest.approx(forward.p_value)


def test_compare_metric_of_decisions_takes_any_function():
    labels, a, b = pair(4, 60, 60, gain=2)
    difference = compare_metric(ranking.accuracy, labels, a > 0.6, b > 0.6, resamples=300)
    assert difference.high < 0
    assert difference.p_value == pytest.approx(2 / 301)


def test_compare_auroc_equal_models_are_rarely_distinguished():
    """400 test sets: p below 0.1 in about a tenth of them."""
    rejected = np.mean([compare_auroc(*pair(seed)).p_value < 0.1 for seed in range(400)])
    assert 0.05 < rejected < 0.15


def test_compare_better_model_is_distinguished():
    labels, a, b = pair(5, 60, 90, gain=1)
    for difference in (compare_auroc(labels, b, a), *(compare_metric(name, labels, b, a) for name in NAMES)):
        assert 0 < difference.low < difference.value < difference.high
        assert difference.p_value < 0.05


def test_compare_same_model_has_zero_difference():
    labels, a, _ = pair(6)
    for difference in (
        compare_auroc(labels, a, a),
        compare_metric("image_ap", labels, a, a),
        compare_auroc(labels, a, np.exp(a)),
    ):
        assert difference == (0.0, 0.0, 0.0, 1.0, "")


@pytest.mark.parametrize("name", NAMES)
def test_compare_metric_perfect_models_have_bounded_interval(name):
    labels = np.repeat([1, 0], [20, 30])
    a, b = labels + 0.0, labels * np.linspace(1, 2, 50)
    difference = compare_metric(name, labels, a, b)
    assert (difference.value, difference.p_value) == (0, 1)
    assert 0 < difference.high == -difference.low < 0.6
    if name == "image_auroc":
        assert compare_auroc(labels, a, b)[1:3] == difference[1:3]
        assert (1 - difference.high) ** 20 == pytest.approx(0.0125)  # half of 5 % for each model, one-sided


def test_compare_without_variation_has_no_interval():
    labels = np.repeat([1, 0], [5, 5])
    for difference in (compare_auroc(labels, labels, -labels), compare_metric("image_ap", labels, labels, -labels)):
        assert difference.value > 0
        assert (difference.low, difference.high, difference.p_value) == (None, None, None)
        assert difference.reason == "the difference does not vary between images"


@pytest.mark.parametrize(
    ("labels", "value", "reason"),
    [
        ([], None, "no images"),
        ([0, 0, 0], None, "no anomalous images"),
        ([1, 1, 1], None, "no normal images"),
        ([0, 0, 1], -1, "fewer than 2 anomalous images"),
        ([0, 1, 1], -1, "fewer than 2 normal images"),
    ],
)
def test_compare_undefined_has_reason(labels, value, reason):
    b = np.arange(len(labels))
    for difference in (compare_auroc(labels, -b, b), compare_metric("image_auroc", labels, -b, b)):
        assert difference == (value, None, None, None, reason)


def test_compare_metric_undefined_function_has_reason():
    assert compare_metric(ranking.precision, [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]).reason == "the metric is undefined"
    rare = compare_metric(lambda truth, scores: None if len(set(scores)) < 4 else 1.0, [0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1])
    assert rare == (0.0, None, None, None, "undefined in most resamples")


def test_compare_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="metric: got 'auroc', allowed are image_auroc, image_ap, image_f1max or a function"):
        compare_metric("auroc", [0, 1], [1, 2], [1, 2])
    for call in (compare_auroc, lambda *case: compare_metric("image_ap", *case)):
        with pytest.raises(ValueError, match="scores: 1 of 2 values are NaN"):
            call([0, 1], [1, 2], [1, np.nan])
        with pytest.raises(ValueError, match="labels and scores: got shapes"):
            call([0, 1], [1, 2], [1, 2, 3])


def test_compare_resampled_agrees_with_compare_metric():
    """On the resamples that it draws itself."""
    labels, a, b = pair(0, gain=0.3)
    weights = np.concatenate(list(draw_resamples(labels == 1, 1000, 0)))
    resampled = [count_outcomes(labels == 1, scores, weights).auroc() for scores in (a, b)]
    values = [ranking.auroc(labels == 1, scores) for scores in (a, b)]
    expected = compare_metric("image_auroc", labels, a, b)
    assert compare_resampled(*values, *resampled)[:4] == pytest.approx(expected[:4])


def test_compare_resampled_undefined_in_most_resamples_has_no_interval():
    difference = compare_resampled(0.5, 0.4, [np.nan, np.nan, 0.5], [0.4, 0.4, 0.4])
    assert (difference.low, difference.reason) == (None, "undefined in most resamples")
