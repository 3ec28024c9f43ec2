"""Augmentation of residuals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from adjobs.methods.semirest.augment import MAX_LOG_NOISE, add_noise, draw_dropout, draw_neighbour
from adjobs.methods.semirest.config import Config
from tests.helpers.randomness import generator


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [1.0]), (2, [0.5, 0.5]), (3, [0.5, 0.3, 0.2]), (5, [0.5, 0.3, *[0.2 / 3] * 3])]
)
def test_draw_neighbour_draws_each_rank_with_its_probability(count, expected):
    indices = torch.arange(count).expand(100, 100, count) * 10
    drawn = draw_neighbour(indices, Config(), generator())
    frequencies = [float((drawn == 10 * i).float().mean()) for i in range(count)]
    np.testing.assert_allclose(frequencies, expected, atol=0.02)


def test_add_noise_is_clipped_and_limited_to_its_fraction_of_tokens_and_dimensions():
    noisy = add_noise(torch.ones(200, 64), Config(), generator())
    assert math.exp(-MAX_LOG_NOISE) - 1e-6 <= noisy.min() < 0.9
    assert 1.1 < noisy.max() <= 1.25 + 1e-6
    changed = noisy != 1
    assert abs(float(changed.any(1).float().mean()) - 0.5) < 0.1
    assert abs(float(changed[changed.any(1)].float().mean()) - 0.5) < 0.03


def test_add_noise_zero_variance_changes_nothing():
    residuals = torch.ones(200, 64)
    assert torch.equal(add_noise(residuals, Config(noise_variance=0.0), generator()), residuals)


def test_draw_dropout_fraction_is_itself_drawn():
    fractions = [float(draw_dropout(torch.Size((40, 40)), 0.5, generator(seed)).float().mean()) for seed in range(50)]
    assert min(fractions) < 0.05
    assert 0.4 < max(fractions) < 0.55
