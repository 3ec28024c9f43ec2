"""The exact paired test and its limits: against hand-computed values, by enumeration, and with their stated error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adjobs.evaluation import paired_rates
from adjobs.evaluation.paired_rates import Disagreement, detectable_gain, lower_limit, needed_images, p_value, power, upper_limit


def test_p_value_all_gained_is_a_coin_toss_each():
    # The largest probability of five gains is at a share of one half.
    assert p_value(Disagreement(5, 0, 5), 0.0) == pytest.approx(0.5**5)
    assert p_value(Disagreement(0, 0, 5), 0.0) == 1


def test_p_value_without_difference_is_never_above_mcnemar():
    """The unconditional test is the stronger one (Suissa and Shuster 1991)."""
    for gained, lost in ((6, 0), (8, 1), (9, 2)):
        mcnemar = stats.binomtest(gained, gained + lost, alternative="greater").pvalue
        assert p_value(Disagreement(gained, lost, 20), 0.0) < mcnemar


def test_statistic_without_difference_is_that_of_mcnemar():
    first, second = np.array([8, 3, 0]), np.array([1, 3, 0])
    statistic = paired_rates._statistic(first, second, 20, 0.0)
    assert statistic == pytest.approx([7 / 3, 0, 0])


@pytest.mark.parametrize("difference", [-0.15, 0.0, 0.1])
def test_critical_region_rejects_where_p_value_does(difference):
    first, second = paired_rates._tables(12)
    region = paired_rates._critical_region(12, 0.05, difference)
    counts = [Disagreement(int(a), int(b), 12) for a, b in zip(first, second, strict=True)]
    assert [p_value(count, difference) <= 0.05 for count in counts] == region.tolist()


@pytest.mark.parametrize("margin", [0.0, -0.1])
def test_power_at_the_hypothesis_is_at_most_alpha(margin):
    rates = [power(20, lost + margin, lost, 0.05, margin) for lost in np.linspace(-margin, (1 - margin) / 2, 41)]
    assert 0.02 < max(rates) <= 0.0505  # the grid of the test is finer than the rounding allowed for


def test_limits_cover_the_true_difference_by_enumeration():
    gain, lost = 0.3, 0.1
    first, second = paired_rates._tables(10)
    probabilities = paired_rates._trinomial(10, np.array([gain]), np.array([lost]), np.full(len(first), True))[:, 0]
    counts = [Disagreement(int(a), int(b), 10) for a, b in zip(first, second, strict=True)]
    above = [lower_limit(count, 0.05, 0.0) > gain - lost for count in counts]
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities[above].sum() <= 0.0505


@pytest.mark.parametrize(
    "counts", [Disagreement(0, 0, 28), Disagreement(0, 0, 29), Disagreement(3, 2, 40), Disagreement(9, 1, 250)]
)
def test_lower_limit_agrees_with_the_test_at_its_anchor(counts):
    for anchor in (-0.1, 0.0):
        assert (lower_limit(counts, 0.05, anchor) >= anchor) == (p_value(counts, anchor) <= 0.05)


def test_limits_hold_the_difference_and_mirror_each_other():
    counts = Disagreement(5, 2, 30)
    low, high = lower_limit(counts, 0.05, 0.0), upper_limit(counts, 0.05, 0.2)
    assert -1 <= low < counts.difference < high <= 1
    assert low == pytest.approx(-upper_limit(counts.swapped, 0.05, 0.0))
    assert lower_limit(Disagreement(0, 4, 4), 0.05, 0.0) == -1


@pytest.fixture
def _empty_caches():
    yield
    for function in (lower_limit, p_value, power):
        function.cache_clear()


@pytest.mark.usefixtures("_empty_caches")
def test_approximation_is_close_to_the_exact_test_and_no_bolder(monkeypatch):
    def compute():
        for function in (lower_limit, p_value, power):
            function.cache_clear()
        shares = power(60, 0.3, 0.05, 0.05), power(60, 0.05, 0.05, 0.05, -0.1)
        return np.array([lower_limit(Disagreement(12, 5, 60), 0.05, 0.0), *shares])

    exact = compute()
    monkeypatch.setattr(paired_rates, "MAX_EXACT", 59)
    approximate = compute()
    assert np.all(approximate <= exact + 0.005)
    assert np.all(approximate >= exact - 0.16)


def test_power_agrees_with_simulation():
    drawn = np.random.default_rng(0).multinomial(18, (0.4, 0.05, 0.55), size=4000)
    rejected = np.mean([p_value(Disagreement(int(a), int(b), 18), 0.0) <= 0.05 for a, b, _ in drawn])
    assert power(18, 0.4, 0.05, 0.05) == pytest.approx(rejected, abs=0.03)


def test_detectable_gain_is_seen_with_the_power():
    gain = detectable_gain(18, 0.05, 0.05, 0.8)
    assert gain == pytest.approx(0.384, abs=0.001)
    assert power(18, gain + 0.05, 0.05, 0.05) >= 0.8 > power(18, gain + 0.04, 0.05, 0.05)
    assert detectable_gain(4, 0.05, 0.05, 0.8) is None
    assert detectable_gain(0, 0.05, 0.05, 0.8) is None


def test_needed_images_falls_with_the_gain():
    needed = [needed_images(gain, 0.05, 0.05, 0.8) for gain in (0.1, 0.2, 0.5)]
    assert needed == sorted(needed, reverse=True)
    assert power(needed[1], 0.25, 0.05, 0.05) >= 0.8
    assert needed_images(0.001, 0.05, 0.05, 0.8) is None
