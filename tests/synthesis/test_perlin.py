"""Perlin noise and masks: properties that follow from the construction."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import ndimage

from adjobs.synthesis import perlin
from adjobs.synthesis.perlin import perlin_masks, perlin_noise
from tests.helpers.randomness import generator

SIZE = (64, 96)


def test_perlin_noise_fills_but_never_leaves_its_range():
    noise = perlin_noise(generator(), torch.full((64, 2), 8.0), SIZE, max_scale=8)
    assert noise.shape == (64, *SIZE)
    assert 0.8 < float(noise.abs().max()) <= 1
    assert abs(float(noise.mean())) < 0.02


def test_perlin_noise_vanishes_at_cell_corners(monkeypatch):
    monkeypatch.setattr(perlin, "MAX_ROTATION", 0.0)
    # Pixel centres are at (i + ½) / n − ½ + ¾ of the side; with n = 2 and 4 cells they are at cells 2 and 4 exactly.
    noise = perlin_noise(generator(), torch.tensor([[4.0, 4.0]]), (2, 2), max_scale=4)
    torch.testing.assert_close(noise, torch.zeros(1, 2, 2))


def test_perlin_noise_is_smooth_and_finer_with_more_cells():
    steps = []
    for cells in (1.0, 4.0, 16.0):
        noise = perlin_noise(generator(), torch.full((16, 2), cells), (128, 128), max_scale=cells)
        steps.append(float((noise[:, 1:] - noise[:, :-1]).abs().max()))
    assert steps[0] < steps[1] < steps[2] < 0.6
    assert steps[0] < 0.05


def test_perlin_noise_scales_apply_per_image():
    noise = perlin_noise(generator(), torch.tensor([[1.0, 1.0], [16.0, 16.0]]), (128, 128), max_scale=16)
    roughness = (noise[:, 1:] - noise[:, :-1]).abs().mean((1, 2))
    assert float(roughness[1]) > 5 * float(roughness[0])


def test_perlin_noise_rotation_is_uniform_over_half_a_turn():
    """A strip of cells along one side appears horizontal and vertical about equally often."""
    assert math.isclose(perlin.MAX_ROTATION, math.pi / 2)
    noise = perlin_noise(generator(), torch.tensor([[1.0, 8.0]] * 200), (64, 64), max_scale=8)
    horizontal = (noise[:, :, 1:] - noise[:, :, :-1]).abs().mean((1, 2))
    vertical = (noise[:, 1:] - noise[:, :-1]).abs().mean((1, 2))
    assert 0.25 < float((horizontal > vertical).float().mean()) < 0.75


def test_perlin_masks_same_seed_gives_the_same_masks():
    arguments = (torch.full((4,), 3), torch.full((4,), 0.5), SIZE)
    first, same, other = (perlin_masks(generator(seed), *arguments, max_exponent=3) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_perlin_masks_threshold_sets_area_and_exponent_sets_fragmentation():
    def masks(exponent: int, threshold: float) -> torch.Tensor:
        exponents, thresholds = torch.full((200,), exponent), torch.full((200,), threshold)
        return perlin_masks(generator(), exponents, thresholds, (64, 64), max_exponent=exponent)

    assert float(masks(3, 0.4).float().mean()) > 1.2 * float(masks(3, 0.5).float().mean()) > 0
    few, many = (sum(ndimage.label(mask[0].numpy())[1] for mask in masks(exponent, 0.4)) for exponent in (1, 4))
    assert many > 2 * few > 0


@pytest.mark.parametrize("threshold", [0.5, 0.999])
def test_perlin_masks_reach_the_minimum_area(threshold):
    exponents, thresholds = torch.full((64,), 5), torch.full((64,), threshold)
    masks = perlin_masks(generator(), exponents, thresholds, (64, 64), max_exponent=5, min_area=49)
    areas = masks.flatten(1).sum(1)
    assert int(areas.min()) >= 49
    if threshold > 0.99:
        assert areas.tolist() == [49] * 64


def test_perlin_masks_stay_where_they_are_allowed():
    allowed = torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    allowed[0, :, :, 32:] = True
    allowed[1, :, 10:13, 10:13] = True  # nine pixels, fewer than the minimum area
    exponents, thresholds = torch.full((3,), 3), torch.full((3,), 0.5)
    masks = perlin_masks(generator(), exponents, thresholds, (64, 64), max_exponent=3, allowed=allowed, min_area=49)
    assert not (masks[:2] & ~allowed[:2]).any()
    assert int(masks[0].sum()) >= 49
    assert int(masks[1].sum()) == 9
    assert int(masks[2].sum()) >= 49  # nothing allowed: unrestricted
