"""Procedural textures: in range, never uniform, and deterministic for a seed."""

from __future__ import annotations

import pytest
import torch

from adjobs.synthesis.textures import FAMILIES, draw_textures
from tests.helpers.randomness import generator


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_patterns_fill_zero_to_one_and_differ_between_draws(family, size):
    random = generator()
    drawn = [FAMILIES[family](random, size) for _ in range(4)]
    for pattern in drawn:
        assert pattern.shape == size
        assert 0 <= float(pattern.min()) < 0.35
        assert 0.65 < float(pattern.max()) <= 1
        assert float(pattern.std()) > 0.05
    assert all(not torch.equal(drawn[0], other) for other in drawn[1:])


def test_draw_textures_are_coloured_in_range_and_deterministic():
    images = draw_textures(generator(3), 40, (32, 48))
    assert images.shape == (40, 3, 32, 48)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert (images.flatten(1).std(1) > 0.02).all()
    assert float((images[:, 0] - images[:, 1]).abs().mean()) > 0.05
    assert torch.equal(images, draw_textures(generator(3), 40, (32, 48)))


def test_checks_have_hard_edges_and_fractal_noise_has_none():
    def hardest_edge(pattern: torch.Tensor) -> float:
        return float((pattern[:, 1:] - pattern[:, :-1]).abs().max())

    random = generator()
    assert min(hardest_edge(FAMILIES["checks"](random, (64, 64))) for _ in range(8)) == 1
    assert max(hardest_edge(FAMILIES["fractal"](random, (256, 256))) for _ in range(8)) < 0.5
