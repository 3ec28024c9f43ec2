"""Simulated anomalies: eq. (1), the mask, and the fractions of each kind."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from adjobs.synthesis.anomalies import SimulationConfig, simulate_anomalies
from adjobs.types import Simulated
from tests.helpers.randomness import generator

# Uniform grey images, so that each source can be recognised by its grey value.
NORMAL, TEXTURE, OTHER = 0.5, 0.9, 0.1
PLAIN = SimulationConfig(tone_strength=0.0)


def simulate_uniform(config: SimulationConfig = PLAIN, n: int = 200, seed: int = 0, size: int = 64, **options) -> Simulated:
    def uniform(grey: float, count: int) -> torch.Tensor:
        return torch.full((count, 3, size, size), grey)

    sources = {"textures": uniform(TEXTURE, 3), "other_images": uniform(OTHER, n), **options}
    return simulate_anomalies(uniform(NORMAL, n), generator(seed), config, **sources)


def rectangle_foreground(n: int = 200) -> torch.Tensor:
    foreground = torch.zeros(n, 1, 64, 64, dtype=torch.bool)
    foreground[..., 20:40, 10:50] = True
    return foreground


@pytest.mark.parametrize("config", [PLAIN, SimulationConfig()])
def test_simulate_anomalies_mask_is_exactly_what_changed(config):
    random = generator(1)
    images, others, textures = (torch.rand(n, 3, 64, 96, generator=random) for n in (32, 32, 5))
    simulated = simulate_anomalies(images, random, config, textures=textures, other_images=others)
    assert torch.equal((simulated.images != images).any(1, keepdim=True), simulated.masks)
    assert 0 <= float(simulated.images.min()) <= float(simulated.images.max()) <= 1
    assert simulated.masks.flatten(1).any(1).all()


def test_simulate_anomalies_defaults_draw_each_source_with_its_probability():
    """Half logical; of the others half textures. Shuffling the patches of a uniform image changes nothing."""
    simulated = simulate_uniform(n=600)
    darker = (simulated.images < NORMAL - 1e-3).flatten(1).any(1)
    brighter = (simulated.images > NORMAL + 1e-3).flatten(1).any(1)
    assert torch.equal(darker, simulated.logical)
    assert 0.44 < float(darker.float().mean()) < 0.56
    assert 0.2 < float(brighter.float().mean()) < 0.3
    assert torch.equal(simulated.masks.flatten(1).any(1), darker | brighter)


def test_simulate_anomalies_transparency_stays_within_the_bound_of_its_branch():
    """Logical up to 0.25; structural 0.75 for a quarter of them, up to 0.9 for the others."""
    simulated = simulate_uniform(dataclasses.replace(PLAIN, shuffled_fraction=0.0), n=600)
    difference = torch.where(simulated.masks, simulated.images - NORMAL, 0).flatten(1)
    transparency = 1 - difference.abs().amax(1) / (TEXTURE - NORMAL)
    logical, structural = transparency[simulated.logical], transparency[~simulated.logical]
    assert float(logical.min()) + 1e-6 >= 0
    assert 0.2 < float(logical.max()) <= 0.25 + 1e-6
    assert 0.2 < float((structural - 0.75).abs().lt(1e-4).float().mean()) < 0.32
    assert 0.85 < float(structural.max()) <= 0.9 + 1e-6


def test_simulate_anomalies_logical_regions_are_larger():
    simulated = simulate_uniform(dataclasses.replace(PLAIN, shuffled_fraction=0.0), n=400)
    area = simulated.masks.float().mean((1, 2, 3))
    assert float(area[simulated.logical].mean()) > 1.2 * float(area[~simulated.logical].mean())


def test_simulate_anomalies_stays_on_the_foreground_and_reaches_the_minimum_area():
    foreground = rectangle_foreground()
    simulated = simulate_uniform(dataclasses.replace(PLAIN, logical_fraction=1.0), foreground=foreground)
    assert not (simulated.masks & ~foreground).any()
    assert int(simulated.masks.flatten(1).sum(1).min()) >= round(49 / 16)


def test_simulate_anomalies_fractions_of_zero_and_one_are_exact():
    assert simulate_uniform(dataclasses.replace(PLAIN, logical_fraction=1.0)).logical.all()
    assert not simulate_uniform(dataclasses.replace(PLAIN, logical_fraction=0.0)).logical.any()
    only_shuffled = dataclasses.replace(PLAIN, logical_fraction=0.0, shuffled_fraction=1.0)
    assert not simulate_uniform(only_shuffled).masks.any()


def test_simulate_anomalies_same_seed_gives_the_same_images():
    first, same, other = (simulate_uniform(SimulationConfig(), n=8, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.images, same.images)
    assert not torch.equal(first.images, other.images)


def test_simulate_anomalies_shuffled_is_logical_moves_shuffling_to_the_logical_branch():
    """Shuffling a uniform image is invisible, so every visible anomaly is structural."""
    simulated = simulate_uniform(dataclasses.replace(PLAIN, shuffled_fraction=1.0, shuffled_is_logical=True))
    assert torch.equal(simulated.masks.flatten(1).any(1), ~simulated.logical)


def test_simulate_anomalies_rectangular_masks_are_rectangles_on_the_foreground():
    config = dataclasses.replace(PLAIN, mask_shape="rectangles", shuffled_fraction=0.0)
    masks = simulate_uniform(config).masks
    heights, widths = masks.any(3).sum((1, 2)), masks.any(2).sum((1, 2))
    assert torch.equal(masks.flatten(1).sum(1), heights * widths)
    foreground = rectangle_foreground()
    assert not (simulate_uniform(config, foreground=foreground).masks & ~foreground).any()


def test_simulate_anomalies_accepts_uint8_textures():
    config = dataclasses.replace(PLAIN, logical_fraction=0.0, shuffled_fraction=0.0)
    black, textures = torch.zeros(8, 3, 64, 64), torch.rand(5, 3, 64, 64, generator=generator(1))
    simulated = simulate_anomalies(black, generator(), config, textures=(textures * 255).byte(), other_images=black)
    assert 0 < float(simulated.images.max()) <= 1
