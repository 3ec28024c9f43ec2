"""Ranking metrics against scikit-learn, and against values calculated by hand."""

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
def test_auroc_and_average_precision_match_scikit_learn(pairs):
    labels, scores = unzip(pairs)
    assert ranking.auroc(labels, scores) == pytest.approx(oracle.roc_auc_score(labels, scores))
    assert ranking.average_precision(labels, scores) == pytest.approx(oracle.average_precision_score(labels, scores))


def test_auroc_matches_hand_calculation():
    """Pairs (anomalous, normal): 3 > 1, 3 > 2, 2 > 1 in order, 2 = 2 a tie: (3 + 1/2) / 4."""
    assert ranking.auroc([0, 0, 1, 1], [1, 2, 2, 3]) == 3.5 / 4


def test_average_precision_matches_hand_calculation():
    """Descending: anomaly at 3 (precision 1, recall 1/2), normal at 2, anomaly at 1 (precision 2/3, recall 1)."""
    assert ranking.average_precision([1, 0, 1], [3, 2, 1]) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


@settings(max_examples=50, deadline=None)
@given(IMAGES)
def test_f1_max_is_best_over_all_thresholds(pairs):
    labels, scores = unzip(pairs)
    f1, threshold = ranking.f1_max(labels, scores)
    f1_scores = [oracle.f1_score(labels, scores >= t) for t in scores]
    assert f1 == pytest.approx(max(f1_scores))
    assert f1 == ranking.f1(labels, scores >= threshold)
    assert threshold in scores


def test_f1_max_equal_thresholds_takes_highest():
    """At 4: tp 1, F1 = 2 / (2 + 1) = 2/3. At 3: tp 1, fp 1, 1/2. At 2: fp 2, 2/5. At 1: tp 2, fp 2, 4/6 = 2/3."""
    assert ranking.f1_max([1, 0, 0, 1], [4, 3, 2, 1]) == (2 / 3, 4.0)


def test_confusion_f1_and_accuracy_match_hand_calculation():
    labels, decisions = [0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1, 1]
    assert ranking.confusion(labels, decisions) == {"tn": 2, "fp": 1, "fn": 1, "tp": 3}
    assert ranking.f1(labels, decisions) == 6 / 8
    assert ranking.accuracy(labels, decisions) == 5 / 7
    assert ranking.f1([0, 1], [0, 0]) == 0.0


def test_specificity_recall_and_precision_match_hand_calculation():
    """Normal: 2 of 3 pass. Anomalous: 3 of 4 are detected. Alarms: 3 of 4 are correct."""
    labels, decisions = [0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 0, 1, 1, 1]
    assert ranking.specificity(labels, decisions) == 2 / 3
    assert ranking.recall(labels, decisions) == 3 / 4
    assert ranking.precision(labels, decisions) == 3 / 4


def test_specificity_recall_and_precision_of_nothing_are_undefined():
    assert ranking.precision([0, 1], [0, 0]) is None
    assert ranking.recall([0, 1], [0, 0]) == 0.0
    assert (ranking.recall([0, 0], [0, 1]), ranking.specificity([0, 0], [0, 1])) == (None, 0.5)
    assert (ranking.recall([1, 1], [0, 1]), ranking.specificity([1, 1], [0, 1])) == (0.5, None)
    # Where no alarm can be false, or none correct, precision says nothing.
    assert ranking.precision([0, 0], [0, 1]) is None
    assert ranking.precision([1, 1], [0, 1]) is None


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_image_metrics_without_both_classes_are_undefined(labels):
    scores = [0.5, 0.7][: len(labels)]
    for metric in (ranking.auroc, ranking.average_precision, ranking.f1_max, ranking.roc_curve, ranking.pr_curve):
        assert metric(labels, scores) is None, metric.__name__
    assert ranking.f1(labels, labels) is None


def test_accuracy_needs_images_but_not_both_classes():
    assert ranking.accuracy([], []) is None
    assert ranking.accuracy([0, 0], [0, 1]) == 0.5


def test_roc_curve_matches_hand_calculation():
    """Descending 3 (anomaly), 2 (normal), 1 (anomaly), 0 (normal)."""
    fpr, tpr, thresholds = ranking.roc_curve([1, 0, 1, 0], [3, 2, 1, 0])
    assert fpr.tolist() == [0, 0, 0.5, 0.5, 1]
    assert tpr.tolist() == [0, 0.5, 0.5, 1, 1]
    assert thresholds.tolist() == [np.inf, 3, 2, 1, 0]


def test_pr_curve_matches_hand_calculation():
    """From an alarm on all three, 2 of which are anomalous, to one on the highest only."""
    precision, recall, thresholds = ranking.pr_curve([1, 0, 1], [3, 2, 1])
    assert precision.tolist() == pytest.approx([2 / 3, 1 / 2, 1])
    assert recall.tolist() == [1, 0.5, 0.5]
    assert thresholds.tolist() == [1, 2, 3]


@pytest.mark.parametrize("levels", [None, 2, 10])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixel_ranking_matches_scikit_learn(levels, dtype):
    maps, masks = random_pixels(1, levels, dtype=dtype)
    auroc, ap = ranking.pixel_ranking(maps, masks)
    assert auroc == pytest.approx(oracle.roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert ap == pytest.approx(oracle.average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert (ranking.pixel_auroc(maps, masks), ranking.pixel_ap(maps, masks)) == (auroc, ap)


def test_pixel_ranking_last_bit_counts():
    low, high = np.float64(1.0), np.nextafter(1.0, 2.0)
    masks = np.array([[[False, True]]])
    assert ranking.pixel_ranking(np.array([[[low, high]]]), masks) == (1.0, 1.0)
    assert ranking.pixel_ranking(np.array([[[high, low]]]), masks) == (0.0, 0.5)


def test_pixel_ranking_negative_zero_ties_with_zero():
    maps = np.array([[[0.0, -0.0]]], dtype=np.float32)
    assert ranking.pixel_ranking(maps, np.array([[[False, True]]])) == (0.5, 0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 3]))
def test_pixel_ranking_monotone_transform_is_unchanged(seed, levels):
    maps, masks = random_pixels(seed, levels, shape=(3, 5, 4), dtype=np.float64)
    before = ranking.pixel_ranking(maps, masks)
    order = np.random.default_rng(seed).permutation(maps.size)
    shuffled = [array.ravel()[order].reshape(array.shape) for array in (maps, masks)]
    assert ranking.pixel_ranking(np.exp(maps), masks) == before
    assert ranking.pixel_ranking(*shuffled) == before


@pytest.mark.parametrize("value", [False, True])
def test_pixel_ranking_without_both_classes_is_undefined(value):
    maps = np.zeros((2, 3, 3), dtype=np.float32)
    assert ranking.pixel_ranking(maps, np.full(maps.shape, value)) == (None, None)
    assert ranking.pixel_ranking(maps[:0], np.full((0, 3, 3), value)) == (None, None)


def test_pixel_ranking_leaves_maps_unchanged():
    maps, masks = random_pixels(2)
    original = maps.copy()
    ranking.pixel_ranking(maps, masks)
    np.testing.assert_array_equal(maps, original)


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
def test_image_metrics_invalid_scores_are_refused(labels, scores, message):
    for metric in (ranking.auroc, ranking.average_precision, ranking.f1_max, ranking.roc_curve, ranking.pr_curve):
        with pytest.raises(ValueError, match=message):
            metric(labels, scores)


@pytest.mark.parametrize(("decisions", "message"), [([0, 0.5], "decisions: got 0.5"), ([1], "labels and decisions: got shapes")])
def test_decision_metrics_invalid_decisions_are_refused(decisions, message):
    for metric in (ranking.confusion, ranking.f1, ranking.accuracy, ranking.precision, ranking.recall, ranking.specificity):
        with pytest.raises(ValueError, match=message):
            metric([0, 1], decisions)


def test_macro_f1_is_mean_over_classes():
    labels, decisions = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 1, 1, 1, 1, 0], dtype=bool)
    # Anomalous: TP 3, FP 1, FN 1; normal: TP 1, FP 1, FN 1.
    assert ranking.macro_f1(labels, decisions) == pytest.approx((2 * 3 / 8 + 2 * 1 / 4) / 2)
    assert ranking.macro_f1(labels, np.ones(6, bool)) == pytest.approx((2 * 4 / 10 + 0) / 2)
    assert ranking.macro_f1(np.ones(6), decisions) is None
