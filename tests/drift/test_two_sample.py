"""The two-sample test with an allowance for anomalous images: level, contamination, power."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adjobs.drift.two_sample import POWER, Direction, DominanceTest, _statistics

N, M = 60, 60
REPEATS = 400


def draw_test(share: float = 0.05, n: int = N, m: int = M, draws: int = 1999, seed: int = 0) -> DominanceTest:
    return DominanceTest.draw(n, m, share, draws, np.random.default_rng(seed))


def rejections(test: DominanceTest, draw_recent, level: float = 0.05) -> Direction:
    """Share of the simulated samples in which each one-sided test rejects."""
    generator = np.random.default_rng(1)
    p_values = [test.p_values(generator.normal(size=N), draw_recent(generator), generator) for _ in range(REPEATS)]
    return Direction(*(np.array(p_values) <= level).mean(0))


def contaminated(generator: np.random.Generator, share: float = 0.05, anomalous: float = 10.0) -> np.ndarray:
    return np.where(generator.random(M) < share, anomalous, generator.normal(size=M))


# 400 draws at 5 %: 99.9 % of all repetitions stay below 0.087.
HIGHEST = 0.087


def test_p_values_of_equal_distributions_keep_the_level():
    shares = rejections(draw_test(0.0), lambda generator: generator.normal(size=M))
    assert max(shares) < HIGHEST
    assert min(shares) > 0.02  # without an allowance the test is not conservative


@pytest.mark.parametrize("anomalous", [10.0, -10.0, 1.5])
def test_p_values_of_allowed_anomalies_keep_the_level(anomalous):
    assert max(rejections(draw_test(), lambda generator: contaminated(generator, anomalous=anomalous))) < HIGHEST


def test_p_values_of_more_anomalies_than_allowed_reject():
    assert rejections(draw_test(), lambda generator: contaminated(generator, 0.5)).higher > 0.9


def test_p_values_of_many_ties_keep_the_level():
    test, generator = draw_test(0.0), np.random.default_rng(2)
    p_values = [test.p_values(*generator.integers(0, 3, (2, N)).astype(float), generator) for _ in range(REPEATS)]
    assert max((np.array(p_values) <= 0.05).mean(0)) < HIGHEST


def test_p_values_of_constant_values_show_nothing():
    assert draw_test().p_values(np.zeros(N), np.zeros(M), np.random.default_rng(0)).two_sided > 0.01


def test_p_values_of_a_shift_name_its_direction():
    test = draw_test()
    up = rejections(test, lambda generator: generator.normal(1.0, size=M))
    down = rejections(test, lambda generator: generator.normal(-1.0, size=M))
    assert min(up.higher, down.lower) > 0.95
    assert max(up.lower, down.higher) == 0


def test_p_values_of_a_wider_distribution_reject():
    assert rejections(draw_test(0.0), lambda generator: generator.normal(0, 4, size=M)).higher > 0.3


def test_p_higher_without_allowance_is_that_of_a_permutation_test():
    generator = np.random.default_rng(3)
    reference, recent = generator.normal(size=40), generator.normal(0.4, size=50)

    def statistic(a, b, axis):
        return _statistics(np.atleast_2d(a), np.atleast_2d(b), 0.0).squeeze()

    expected = stats.permutation_test(
        (reference, recent),
        statistic,
        n_resamples=4999,
        alternative="greater",
        vectorized=True,
        rng=generator,
        axis=-1,
        batch=500,
    )
    p_value = draw_test(0.0, 40, 50, 9999).p_higher(reference, recent, generator)
    assert p_value == pytest.approx(expected.pvalue, abs=0.025)


def test_statistics_by_hand():
    # Expected shares of recent values below 0, 1 (of the two reference values): 1/4 and 3/4, without any of them: 1/2 on average.
    assert _statistics(np.array([[0.0, 1.0]]), np.array([[5.0, 6.0]]), 0.0) == [0.5]
    assert _statistics(np.array([[0.0, 1.0]]), np.array([[-5.0, 0.5]]), 0.0) == [0.0]
    assert _statistics(np.array([[0.0, 1.0]]), np.array([[5.0, 6.0]]), 0.2) == pytest.approx([0.4])


def test_critical_is_exceeded_exactly_at_the_level():
    test = draw_test(draws=199)
    critical = test.critical(0.05)
    assert (1 + (test.null > critical).sum()) / 200 <= 0.05
    assert (1 + (test.null >= critical).sum()) / 200 > 0.05
    assert test.critical(0.001) == np.inf


def test_detectable_shift_is_seen_with_the_stated_power():
    test, generator = draw_test(), np.random.default_rng(4)
    shift = test.detectable_shift(0.01, generator)
    seen = [test.p_higher(generator.normal(size=N), generator.normal(shift, size=M), generator) <= 0.01 for _ in range(REPEATS)]
    assert np.mean(seen) == pytest.approx(POWER, abs=0.1)


def test_detectable_shift_falls_with_the_number_of_images():
    generator = np.random.default_rng(5)
    few, many = (draw_test(n=n, m=n).detectable_shift(0.01, generator) for n in (30, 200))
    assert few > 1.5 * many
    assert draw_test(n=3, m=3).detectable_shift(0.001, generator) is None


def test_draw_is_the_same_for_the_same_seed():
    assert (draw_test(seed=7).null == draw_test(seed=7).null).all()
