"""Ranking figures against scikit-learn, and against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from adjobs.metrics import ranking

# Few distinct scores, so that ties are the rule.
IMAGES = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=30).filter(
    lambda pairs: {label for label, _ in pairs} == {0, 1}
)


def unzip(pairs):
    return np.array([label for label, _ in pairs]), np.array([score for _, score in pairs], dtype=float)


def random_pixels(seed, levels=None, shape=(4, 16, 12), dtype=np.float32):
    rng = np.random.default_rng(seed)
    masks = rng.random(shape) < 0.1
    maps = rng.normal(size=shape) + masks
    return (maps if levels is None else np.round(maps * levels) / levels).astype(dtype), masks


@settings(max_examples=50, deadline=None)
@given(IMAGES)
def test_image_figures_agree_with_scikit_learn(pairs):
    labels, scores = unzip(pairs)
    assert ranking.auroc(labels, scores) == pytest.approx(oracle.roc_auc_score(labels, scores))
    assert ranking.average_precision(labels, scores) == pytest.approx(oracle.average_precision_score(labels, scores))


def test_auroc_by_hand():
    """Pairs (anomaly, good): 3 > 1, 3 > 2, 2 > 1 in order, 2 = 2 a tie: (3 + 1/2) / 4."""
    assert ranking.auroc([0, 0, 1, 1], [1, 2, 2, 3]) == 3.5 / 4


def test_average_precision_by_hand():
    """Descending: anomaly at 3 (precision 1, recall 1/2), good at 2, anomaly at 1 (precision 2/3, recall 1)."""
    assert ranking.average_precision([1, 0, 1], [3, 2, 1]) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


@settings(max_examples=50, deadline=None)
@given(IMAGES)
def test_f1_max_is_the_best_over_all_thresholds(pairs):
    labels, scores = unzip(pairs)
    f1, threshold = ranking.f1_max(labels, scores)
    every = {t: oracle.f1_score(labels, scores >= t) for t in scores}
    assert f1 == pytest.approx(max(every.values()))
    assert f1 == ranking.f1(labels, scores >= threshold)
    assert threshold in scores


def test_f1_max_by_hand_takes_the_highest_of_equal_thresholds():
    """At 4: tp 1, F1 = 2 / (2 + 1) = 2/3. At 3: tp 1, fp 1, 1/2. At 2: fp 2, 2/5. At 1: tp 2, fp 2, 4/6 = 2/3."""
    assert ranking.f1_max([1, 0, 0, 1], [4, 3, 2, 1]) == (2 / 3, 4.0)


def test_confusion_f1_and_accuracy_by_hand():
    labels, decisions = [0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1, 1]
    assert ranking.confusion(labels, decisions) == {"tn": 2, "fp": 1, "fn": 1, "tp": 3}
    assert ranking.f1(labels, decisions) == 6 / 8
    assert ranking.accuracy(labels, decisions) == 5 / 7
    assert ranking.f1([0, 1], [0, 0]) == 0.0


def test_rates_by_hand():
    """Good: 2 of 3 pass. Anomalies: 3 of 4 are found. Alarms: 3 of 4 are right."""
    labels, decisions = [0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1, 1]
    assert ranking.specificity(labels, decisions) == 2 / 3
    assert ranking.recall(labels, decisions) == 3 / 4
    assert ranking.precision(labels, decisions) == 3 / 4


def test_rates_are_undefined_without_what_they_are_shares_of():
    assert ranking.precision([0, 1], [0, 0]) is None
    assert ranking.recall([0, 1], [0, 0]) == 0.0
    assert (ranking.recall([0, 0], [0, 1]), ranking.specificity([0, 0], [0, 1])) == (None, 0.5)
    assert (ranking.recall([1, 1], [0, 1]), ranking.specificity([1, 1], [0, 1])) == (0.5, None)
    # Of alarms where nothing can be a false one, or a right one, the share is no news.
    assert ranking.precision([0, 0], [0, 1]) is None
    assert ranking.precision([1, 1], [0, 1]) is None


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_figures_without_both_classes_are_undefined(labels):
    scores = [0.5, 0.7][: len(labels)]
    for figure in (ranking.auroc, ranking.average_precision, ranking.f1_max, ranking.roc_curve, ranking.pr_curve):
        assert figure(labels, scores) is None, figure.__name__
    assert ranking.f1(labels, labels) is None


def test_accuracy_needs_images_but_not_both_classes():
    assert ranking.accuracy([], []) is None
    assert ranking.accuracy([0, 0], [0, 1]) == 0.5


def test_roc_curve_by_hand():
    """Descending 3 (anomaly), 2 (good), 1 (anomaly), 0 (good)."""
    fpr, tpr, thresholds = ranking.roc_curve([1, 0, 1, 0], [3, 2, 1, 0])
    assert fpr.tolist() == [0, 0, 0.5, 0.5, 1]
    assert tpr.tolist() == [0, 0.5, 0.5, 1, 1]
    assert thresholds.tolist() == [np.inf, 3, 2, 1, 0]


def test_pr_curve_by_hand():
    """From alarming on all three, 2 of which are anomalies, to alarming on the highest alone."""
    precision, recall, thresholds = ranking.pr_curve([1, 0, 1], [3, 2, 1])
    assert precision.tolist() == pytest.approx([2 / 3, 1 / 2, 1])
    assert recall.tolist() == [1, 0.5, 0.5]
    assert thresholds.tolist() == [1, 2, 3]


@pytest.mark.parametrize("levels", [None, 2, 10])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixel_figures_agree_with_scikit_learn(levels, dtype):
    maps, masks = random_pixels(1, levels, dtype=dtype)
    auroc, ap = ranking.pixel_ranking(maps, masks)
    assert auroc == pytest.approx(oracle.roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert ap == pytest.approx(oracle.average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert (ranking.pixel_auroc(maps, masks), ranking.pixel_ap(maps, masks)) == (auroc, ap)


def test_pixel_scores_that_differ_in_the_last_bit_are_told_apart():
    low, high = np.float64(1.0), np.nextafter(1.0, 2.0)
    masks = np.array([[[False, True]]])
    assert ranking.pixel_ranking(np.array([[[low, high]]]), masks) == (1.0, 1.0)
    assert ranking.pixel_ranking(np.array([[[high, low]]]), masks) == (0.0, 0.5)


def test_negative_zero_ties_with_zero():
    maps = np.array([[[0.0, -0.0]]], dtype=np.float32)
    assert ranking.pixel_ranking(maps, np.array([[[False, True]]])) == (0.5, 0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 3]))
def test_pixel_figures_depend_on_order_alone(seed, levels):
    maps, masks = random_pixels(seed, levels, shape=(3, 5, 4), dtype=np.float64)
    before = ranking.pixel_ranking(maps, masks)
    order = np.random.default_rng(seed).permutation(maps.size)
    shuffled = [array.ravel()[order].reshape(array.shape) for array in (maps, masks)]
    assert ranking.pixel_ranking(np.exp(maps), masks) == before
    assert ranking.pixel_ranking(*shuffled) == before


@pytest.mark.parametrize("value", [False, True])
def test_pixel_figures_without_both_classes_are_undefined(value):
    maps = np.zeros((2, 3, 3), dtype=np.float32)
    assert ranking.pixel_ranking(maps, np.full(maps.shape, value)) == (None, None)
    assert ranking.pixel_ranking(maps[:0], np.full((0, 3, 3), value)) == (None, None)


def test_pixel_figures_leave_the_maps_alone():
    maps, masks = random_pixels(2)
    kept = maps.copy()
    ranking.pixel_ranking(maps, masks)
    np.testing.assert_array_equal(maps, kept)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.1, np.nan], r"scores: 1 of 2 values are NaN or infinite, the first at index \(1,\)"),
        ([0, 1], [-np.inf, 0.1], r"scores: 1 of 2 values are NaN or infinite, the first at index \(0,\)"),
        ([0, 2], [0.1, 0.2], "labels: got 2, allowed are 0 and 1"),
        ([0, 1, 1], [0.1, 0.2], r"labels and scores: got shapes \(3,\) and \(2,\)"),
        ([[0, 1]], [[0.1, 0.2]], r"labels: got shape \(1, 2\), need one dimension"),
    ],
)
def test_faulty_image_scores_are_refused(labels, scores, message):
    for figure in (ranking.auroc, ranking.average_precision, ranking.f1_max, ranking.roc_curve, ranking.pr_curve):
        with pytest.raises(ValueError, match=message):
            figure(labels, scores)


@pytest.mark.parametrize(("decisions", "message"), [([0, 0.5], "decisions: got 0.5"), ([1], "labels and decisions: got shapes")])
def test_faulty_decisions_are_refused(decisions, message):
    for figure in (ranking.confusion, ranking.f1, ranking.accuracy, ranking.precision, ranking.recall, ranking.specificity):
        with pytest.raises(ValueError, match=message):
            figure([0, 1], decisions)


def test_macro_f1_is_the_mean_of_both_classes_and_does_not_reward_calling_all_anomalous():
    labels, decisions = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 1, 1, 1, 1, 0], dtype=bool)
    # Anomalous: 3 right, 1 false, 1 missed; normal: 1 right, 1 false, 1 missed.
    assert ranking.macro_f1(labels, decisions) == pytest.approx((2 * 3 / 8 + 2 * 1 / 4) / 2)
    assert ranking.macro_f1(labels, np.ones(6, bool)) == pytest.approx((2 * 4 / 10 + 0) / 2)
    assert ranking.macro_f1(np.ones(6), decisions) is None
