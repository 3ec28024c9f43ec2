"""The classifier two-sample test: level, power, constant features."""

from __future__ import annotations

import numpy as np

from adjobs.drift.separation import separation

DRAWS = 399


def p_values(shift: float, repeats: int, share: float = 0.05, anomalous: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(0)
    values = []
    for _ in range(repeats):
        reference, recent = generator.normal(size=(60, 8)), generator.normal(size=(60, 8)) + shift
        recent[generator.random(60) < anomalous, 0] += 30
        values.append(separation(reference, recent, share, DRAWS, generator).p_value)
    return np.array(values)


def test_separation_of_equal_distributions_keeps_the_level():
    assert (p_values(0, 80, share=0.0) <= 0.1).mean() < 0.22  # 99.9 % of all repetitions at 10 %


def test_separation_allows_a_few_anomalies():
    assert (p_values(0, 50, anomalous=0.05) <= 0.1).mean() < 0.27


def test_separation_of_shifted_features_rejects():
    assert (p_values(0.8, 10) <= 0.05).all()


def test_separation_states_how_well_images_are_distinguished():
    generator = np.random.default_rng(1)
    reference = generator.normal(size=(60, 4))
    assert separation(reference, reference + 10, 0.0, DRAWS, generator).auroc == 1
    assert 0.3 < separation(reference, generator.normal(size=(60, 4)), 0.0, DRAWS, generator).auroc < 0.7


def test_separation_of_constant_features_shows_nothing():
    generator = np.random.default_rng(2)
    assert separation(np.ones((30, 3)), np.ones((30, 3)), 0.0, DRAWS, generator).p_value > 0.01


def test_separation_of_a_feature_that_only_recent_images_have_rejects():
    generator = np.random.default_rng(3)
    assert separation(np.zeros((40, 2)), np.tile([0.0, 1.0], (40, 1)), 0.05, DRAWS, generator).p_value < 0.02
