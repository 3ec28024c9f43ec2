"""Intervals against their definitions, against scikit-learn on weighted samples, and against how often they hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn import metrics as oracle

from adjobs.metrics import ranking
from adjobs.metrics.bootstrap import draw_resamples, count_outcomes
from adjobs.metrics.delong import delong
from adjobs.metrics.intervals import auroc_interval, bootstrapped, perfect_separation, pr_band, pro_band, proportion, roc_band
from adjobs.metrics.region import pro_curve

SCORES = st.lists(st.integers(-2, 2), min_size=2, max_size=12)


def sample(seed, m=25, n=40, shift=1.2, levels=None):
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [m, n])
    scores = rng.normal(size=m + n) + shift * labels
    return labels, scores if levels is None else np.round(scores * levels) / levels


def slow_covariance(truth, scores):
    """DeLong's definition over all pairs: 1 for the right order, 1/2 for a tie."""
    pairs = []
    for row in scores:
        good, bad = row[~truth], row[truth]
        pairs.append([[1.0 if x > y else 0.5 if x == y else 0.0 for y in good] for x in bad])
    psi = np.array(pairs)  # models, anomalies, good
    areas = psi.mean((1, 2))
    total = np.zeros((len(scores), len(scores)))
    for axis, count in ((2, psi.shape[1]), (1, psi.shape[2])):
        off = psi.mean(axis) - areas[:, None]
        total += off @ off.T / (count - 1) / count
    return areas, total


@settings(max_examples=50, deadline=None)
@given(SCORES, SCORES, st.integers(0, 10**6))
def test_delong_is_its_definition(good, bad, seed):
    truth = np.repeat([False, True], [len(good), len(bad)])
    first = np.array(good + bad, dtype=float)
    scores = np.stack((first, np.random.default_rng(seed).permutation(first)))
    areas, covariance = slow_covariance(truth, scores)
    found = delong(truth, scores)
    np.testing.assert_allclose(found.areas, areas, atol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-12)
    assert found.areas[0] == pytest.approx(ranking.auroc(truth, first))


def test_auroc_interval_is_symmetric_on_the_logit_scale():
    labels, scores = sample(0)
    found = auroc_interval(labels, scores)
    area, variance = (one.item() for one in slow_covariance(labels == 1, scores[None]))
    reach = stats.norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
    assert found.value == pytest.approx(area)
    assert [math.log(end / (1 - end)) for end in found[1:3]] == pytest.approx(
        [math.log(area / (1 - area)) - reach, math.log(area / (1 - area)) + reach]
    )


@pytest.mark.parametrize(("m", "n", "area"), [(20, 40, 0.8), (15, 30, 0.95)])
def test_auroc_interval_holds_as_often_as_it_says(m, n, area):
    """Normal scores with the AUROC: 600 test sets. The plain DeLong interval holds in 83 % of the second case's."""
    shift = math.sqrt(2) * stats.norm.ppf(area)
    held = 0
    for seed in range(600):
        found = auroc_interval(*sample(seed, m, n, shift))
        held += found.low <= area <= found.high
    assert 0.92 < held / 600 < 0.995


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 2]))
def test_auroc_interval_depends_on_order_alone(seed, levels):
    labels, scores = sample(seed, 6, 9, levels=levels)
    order = np.random.default_rng(seed).permutation(len(labels))
    before = pytest.approx(auroc_interval(labels, scores)[:3])
    assert auroc_interval(labels, np.exp(scores))[:3] == before
    assert auroc_interval(labels[order], scores[order])[:3] == before


@pytest.mark.parametrize(("m", "n"), [(2, 2), (5, 30), (40, 8)])
def test_perfect_separation_leaves_an_area_that_would_show_it_rarely(m, n):
    """Worst case: a share 1 - A of the smaller class is ranked last. It is not seen with probability A^min(m, n)."""
    labels = np.repeat([1, 0], [m, n])
    found = auroc_interval(labels, labels * 2.0)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low ** min(m, n) == pytest.approx(0.025)
    mirrored = auroc_interval(labels, -labels * 2.0)
    assert mirrored[:3] == pytest.approx((0.0, 0.0, 1 - found.low))


def test_least_f1_and_ap_of_a_perfect_sample():
    """20 anomalies, 50 good: at least the share s is found, at most the share f of good ones alarms."""
    bounds = perfect_separation(20, 50)
    s, f = 0.025 ** (1 / 20), 1 - 0.025 ** (1 / 50)
    assert bounds.f1() == pytest.approx(2 * 20 * s / (20 + 20 * s + 50 * f))
    area, _ = integrate.quad(lambda recall: 20 * recall / (20 * recall + 50 * f), 0, s)
    assert bounds.ap() == pytest.approx(area)


@pytest.mark.parametrize(("hits", "of"), [(0, 7), (1, 9), (5, 11), (40, 41), (7, 7)])
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_proportion_ends_where_the_count_becomes_unlikely(hits, of, confidence):
    """Clopper and Pearson's definition."""
    value, low, high, reason = proportion(hits, of, confidence)
    tail = (1 - confidence) / 2
    assert (value, reason) == (hits / of, "")
    assert low == 0 if hits == 0 else stats.binom.sf(hits - 1, of, low) == pytest.approx(tail)
    assert high == 1 if hits == of else stats.binom.cdf(hits, of, high) == pytest.approx(tail)


def test_what_is_undefined_says_why():
    assert proportion(0, 0, missing="no alarms") == (None, None, None, "no alarms")
    assert auroc_interval([], []) == (None, None, None, "no images")
    assert auroc_interval([0, 0], [1, 2]) == (None, None, None, "no anomalous images")
    assert auroc_interval([1, 1], [1, 2]) == (None, None, None, "no good images")
    assert auroc_interval([0, 0, 1], [1, 2, 1.5]) == (0.5, None, None, "fewer than 2 anomalous images")
    assert auroc_interval([0, 1, 1], [1, 2, 0]) == (0.5, None, None, "fewer than 2 good images")
    assert auroc_interval([0, 0, 1, 1], [3, 3, 3, 3]) == (0.5, None, None, "all scores are the same")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-2, 2), st.integers(0, 3)), min_size=2, max_size=15).filter(
        lambda rows: {label for label, _, weight in rows if weight} == {0, 1}
    )
)
def test_weighted_measures_agree_with_scikit_learn(rows):
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    result = count_outcomes(labels == 1, scores.astype(float), weights[None])
    assert result.auroc() == pytest.approx(oracle.roc_auc_score(labels, scores, sample_weight=weights))
    assert result.ap() == pytest.approx(oracle.average_precision_score(labels, scores, sample_weight=weights))
    every = [oracle.f1_score(labels, scores >= t, sample_weight=weights) for t in scores]
    assert result.f1_max() == pytest.approx(max(every))


def test_resamples_draw_as_many_of_each_stratum():
    strata = np.array(["a", "b", "b", "a", "b"])
    (weights,) = draw_resamples(strata, 200, 0)
    assert weights.shape == (200, 5)
    assert (weights[:, strata == "a"].sum(1) == 2).all()
    assert (weights[:, strata == "b"].sum(1) == 3).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.2)


def test_resamples_come_in_blocks_and_repeat_with_their_seed():
    strata = np.zeros(1 << 21, dtype=bool)
    blocks = list(draw_resamples(strata, 3, 5))
    assert [len(block) for block in blocks] == [2, 1]
    again = np.concatenate(list(draw_resamples(np.zeros(50), 20, 5)))
    np.testing.assert_array_equal(again, np.concatenate(list(draw_resamples(np.zeros(50), 20, np.random.default_rng(5)))))
    assert (again != np.concatenate(list(draw_resamples(np.zeros(50), 20, 6)))).any()


def test_bootstrapped_takes_percentiles_and_holds_the_value():
    values = np.arange(1001) / 1000
    assert bootstrapped(0.5, values, 0.9) == (0.5, pytest.approx(0.05), pytest.approx(0.95), "")
    assert bootstrapped(0.5, values, 0.9, shift=0.1)[1:3] == (pytest.approx(0.15), 1.0)
    assert bootstrapped(0.01, values, 0.9).low == 0.01
    assert bootstrapped(0.5, np.where(values < 0.3, np.nan, values), 0.9).low == pytest.approx(0.335)


def test_bootstrapped_without_variation():
    assert bootstrapped(1.0, np.ones(9), 0.95) == (1.0, None, None, "every resample gives the same value")
    assert bootstrapped(1.0, np.ones(9), 0.95, (0.4, 1.0)) == (1.0, 0.4, 1.0, "")
    assert bootstrapped(0.3, np.array([np.nan, np.nan, 1.0]), 0.95).reason == "undefined in most resamples"


@pytest.mark.parametrize("levels", [None, 1])
def test_bands_hold_the_curves(levels):
    labels, scores = sample(1, levels=levels)
    band = roc_band(labels, scores, resamples=300)
    fpr, tpr, _ = ranking.roc_curve(labels, scores)
    inside = np.interp(band.x, fpr, tpr)
    assert ((band.low <= inside) & (inside <= band.high)).mean() > 0.95
    assert (np.diff(band.low) >= 0).all()
    band = pr_band(labels, scores, resamples=300)
    precision, recall, _ = ranking.pr_curve(labels, scores)
    inside = [precision[recall >= x][-1] for x in band.x]
    assert ((band.low <= inside) & (inside <= band.high)).mean() > 0.95
    assert (band.high <= 1).all()


def test_bands_narrow_with_more_images_and_widen_with_confidence():
    def width(band):
        return (band.high - band.low).mean()

    for band in (roc_band, pr_band):
        too_few_reason, many = sample(2, 20, 20), sample(2, 200, 200)
        assert width(band(*many, resamples=200)) < 0.6 * width(band(*too_few_reason, resamples=200))
        assert width(band(*too_few_reason, resamples=200, confidence=0.5)) < 0.6 * width(band(*too_few_reason, resamples=200))


def test_pro_band_holds_the_curve():
    rng = np.random.default_rng(0)
    masks = np.zeros((30, 24, 24), dtype=bool)
    masks[:15, 5:9, 5:9] = masks[:8, 15:18, 15:20] = True
    maps = (rng.normal(size=masks.shape) + masks * rng.uniform(0.5, 3, (30, 1, 1))).astype(np.float32)
    band = pro_band(maps, masks, 0.3, resamples=200)
    inside = np.interp(band.x, *pro_curve(maps, masks))
    assert band.x[-1] == 0.3
    # At 0 the curve jumps, which one through some of its vertices need not.
    assert ((band.low <= inside) & (inside <= band.high))[1:].mean() > 0.95


def test_no_band_without_two_images_of_each_class():
    assert roc_band([0, 0, 1], [1, 2, 3]) is None
    assert pr_band([0, 1, 1], [1, 2, 3]) is None
    maps, masks = np.zeros((3, 4, 4), dtype=np.float32), np.zeros((3, 4, 4), dtype=bool)
    assert pro_band(maps, masks) is None
    masks[0, 1, 1] = True
    assert pro_band(maps, masks) is None
    assert pro_band(maps, np.ones_like(masks)) is None
