"""Intervals and bands against their definitions, and their coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from adjobs.metrics import ranking
from adjobs.metrics.intervals import auroc_interval, bootstrapped, perfect_separation, pr_band, pro_band, proportion, roc_band
from adjobs.metrics.region import pro_curve
from tests.helpers.oracles import slow_covariance
from tests.helpers.scores import random_scores


def test_auroc_interval_is_symmetric_on_logit_scale():
    labels, scores = random_scores(0)
    estimate = auroc_interval(labels, scores)
    area, variance = (array.item() for array in slow_covariance(labels == 1, scores[None]))
    reach = stats.norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
    assert estimate.value == pytest.approx(area)
    assert [math.log(end / (1 - end)) for end in estimate[1:3]] == pytest.approx(
        [math.log(area / (1 - area)) - reach, math.log(area / (1 - area)) + reach]
    )


@pytest.mark.parametrize(("m", "n", "area"), [(20, 40, 0.8), (15, 30, 0.95)])
def test_auroc_interval_has_nominal_coverage(m, n, area):
    """Normal scores with the AUROC: 600 test sets. The plain DeLong interval covers it in 83 % of the second case's."""
    shift = math.sqrt(2) * stats.norm.ppf(area)
    covered = 0
    for seed in range(600):
        estimate = auroc_interval(*random_scores(seed, m, n, shift))
        covered += estimate.low <= area <= estimate.high
    assert 0.92 < covered / 600 < 0.995


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 2]))
def test_auroc_interval_monotone_transform_is_unchanged(seed, levels):
    labels, scores = random_scores(seed, 6, 9, levels=levels)
    order = np.random.default_rng(seed).permutation(len(labels))
    before = pytest.approx(auroc_interval(labels, scores)[:3])
    assert auroc_interval(labels, np.exp(scores))[:3] == before
    assert auroc_interval(labels[order], scores[order])[:3] == before


@pytest.mark.parametrize(("m", "n"), [(2, 2), (5, 30), (40, 8)])
def test_auroc_interval_perfect_separation_has_exact_lower_end(m, n):
    """Worst case: a share 1 - A of the smaller class is ranked last. None of it is drawn with probability A^min(m, n)."""
    labels = np.repeat([1, 0], [m, n])
    estimate = auroc_interval(labels, labels * 2.0)
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low ** min(m, n) == pytest.approx(0.025)
    mirrored = auroc_interval(labels, -labels * 2.0)
    assert mirrored[:3] == pytest.approx((0.0, 0.0, 1 - estimate.low))


def test_perfect_separation_f1_and_ap_match_formulas():
    """20 anomalous, 50 normal: at least the share s is detected, at most the share f of normal ones alarms."""
    bounds = perfect_separation(20, 50)
    s, f = 0.025 ** (1 / 20), 1 - 0.025 ** (1 / 50)
    assert bounds.f1() == pytest.approx(2 * 20 * s / (20 + 20 * s + 50 * f))
    area, _ = integrate.quad(lambda recall: 20 * recall / (20 * recall + 50 * f), 0, s)
    assert bounds.ap() == pytest.approx(area)


@pytest.mark.parametrize(("hits", "total"), [(0, 7), (1, 9), (5, 11), (40, 41), (7, 7)])
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_proportion_matches_clopper_pearson_definition(hits, total, confidence):
    """Clopper and Pearson's definition."""
    value, low, high, reason = proportion(hits, total, confidence)
    tail = (1 - confidence) / 2
    assert (value, reason) == (hits / total, "")
    assert low == 0 if hits == 0 else stats.binom.sf(hits - 1, total, low) == pytest.approx(tail)
    assert high == 1 if hits == total else stats.binom.cdf(hits, total, high) == pytest.approx(tail)


def test_estimates_undefined_have_reason():
    assert proportion(0, 0, reason="no alarms") == (None, None, None, "no alarms")
    assert auroc_interval([], []) == (None, None, None, "no images")
    assert auroc_interval([0, 0], [1, 2]) == (None, None, None, "no anomalous images")
    assert auroc_interval([1, 1], [1, 2]) == (None, None, None, "no normal images")
    assert auroc_interval([0, 0, 1], [1, 2, 1.5]) == (0.5, None, None, "fewer than 2 anomalous images")
    assert auroc_interval([0, 1, 1], [1, 2, 0]) == (0.5, None, None, "fewer than 2 normal images")
    assert auroc_interval([0, 0, 1, 1], [3, 3, 3, 3]) == (0.5, None, None, "all scores are the same")


def test_bootstrapped_takes_percentiles_and_contains_value():
    values = np.arange(1001) / 1000
    assert bootstrapped(0.5, values, 0.9) == (0.5, pytest.approx(0.05), pytest.approx(0.95), "")
    assert bootstrapped(0.5, values, 0.9, shift=0.1)[1:3] == (pytest.approx(0.15), 1.0)
    assert bootstrapped(0.01, values, 0.9).low == 0.01
    assert bootstrapped(0.5, np.where(values < 0.3, np.nan, values), 0.9).low == pytest.approx(0.335)


def test_bootstrapped_without_variation_uses_edge_or_gives_reason():
    assert bootstrapped(1.0, np.ones(9), 0.95) == (1.0, None, None, "every resample gives the same value")
    assert bootstrapped(1.0, np.ones(9), 0.95, (0.4, 1.0)) == (1.0, 0.4, 1.0, "")
    assert bootstrapped(0.3, np.array([np.nan, np.nan, 1.0]), 0.95).reason == "undefined in most resamples"


@pytest.mark.parametrize("levels", [None, 1])
def test_roc_band_and_pr_band_contain_curves(levels):
    labels, scores = random_scores(1, levels=levels)
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


def test_bands_narrow_with_images_and_widen_with_confidence():
    def width(band):
        return (band.high - band.low).mean()

    for band in (roc_band, pr_band):
        small, large = random_scores(2, 20, 20), random_scores(2, 200, 200)
        assert width(band(*large, resamples=200)) < 0.6 * width(band(*small, resamples=200))
        assert width(band(*small, resamples=200, confidence=0.5)) < 0.6 * width(band(*small, resamples=200))


def test_pro_band_contains_curve():
    rng = np.random.default_rng(0)
    masks = np.zeros((30, 24, 24), dtype=bool)
    masks[:15, 5:9, 5:9] = masks[:8, 15:18, 15:20] = True
    maps = (rng.normal(size=masks.shape) + masks * rng.uniform(0.5, 3, (30, 1, 1))).astype(np.float32)
    band = pro_band(maps, masks, 0.3, resamples=200)
    inside = np.interp(band.x, *pro_curve(maps, masks))
    assert band.x[-1] == 0.3
    # At 0 the curve jumps; one through some of its vertices may not.
    assert ((band.low <= inside) & (inside <= band.high))[1:].mean() > 0.95


def test_bands_fewer_than_two_images_of_a_class_are_none():
    assert roc_band([0, 0, 1], [1, 2, 3]) is None
    assert pr_band([0, 1, 1], [1, 2, 3]) is None
    maps, masks = np.zeros((3, 4, 4), dtype=np.float32), np.zeros((3, 4, 4), dtype=bool)
    assert pro_band(maps, masks) is None
    masks[0, 1, 1] = True
    assert pro_band(maps, masks) is None
    assert pro_band(maps, np.ones_like(masks)) is None
