"""Simulated anomalies: eq. (1), and that the mask is what was changed."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from adjobs.synthesis.anomalies import Strategy, simulate
from adjobs.types import Simulated

# Flat pictures of one grey, so that every source can be told by its colour.
GOOD, TEXTURE, OTHER = 0.5, 0.9, 0.1
PLAIN = Strategy(tone=0.0)


def run(strategy: Strategy = PLAIN, n: int = 200, seed: int = 0, size: int = 64, **options) -> Simulated:
    def flat(grey: float, count: int) -> torch.Tensor:
        return torch.full((count, 3, size, size), grey)

    sources = {"textures": flat(TEXTURE, 3), "others": flat(OTHER, n), **options}
    return simulate(flat(GOOD, n), torch.Generator().manual_seed(seed), strategy, **sources)


@pytest.mark.parametrize("strategy", [PLAIN, Strategy()])
def test_the_mask_is_what_was_changed(strategy):
    generator = torch.Generator().manual_seed(1)
    images, others, textures = (torch.rand(n, 3, 64, 96, generator=generator) for n in (32, 32, 5))
    found = simulate(images, generator, strategy, textures=textures, others=others)
    assert torch.equal((found.images != images).any(1, keepdim=True), found.masks)
    assert 0 <= float(found.images.min()) <= float(found.images.max()) <= 1
    assert found.masks.flatten(1).any(1).all()


def test_sources_have_their_shares():
    """Half logical; of the others half textures; the shuffled patches of a flat picture are that picture: nothing is seen."""
    found = run(n=600)
    darker = (found.images < GOOD - 1e-3).flatten(1).any(1)
    brighter = (found.images > GOOD + 1e-3).flatten(1).any(1)
    assert torch.equal(darker, found.logical)
    assert 0.44 < float(darker.float().mean()) < 0.56
    assert 0.2 < float(brighter.float().mean()) < 0.3
    assert torch.equal(found.masks.flatten(1).any(1), darker | brighter)


def test_opacities_are_those_of_the_two_kinds():
    """Of the picture itself: a logical anomaly keeps up to 1/4, a structural one 3/4 (a quarter of them) or up to 0.9."""
    found = run(dataclasses.replace(PLAIN, shuffled=0.0), n=600)
    extreme = torch.where(found.masks, found.images - GOOD, 0).flatten(1)
    kept = 1 - extreme.abs().amax(1) / (TEXTURE - GOOD)
    logical, structural = kept[found.logical], kept[~found.logical]
    assert float(logical.min()) + 1e-6 >= 0
    assert 0.2 < float(logical.max()) <= 0.25 + 1e-6
    assert 0.2 < float((structural - 0.75).abs().lt(1e-4).float().mean()) < 0.32
    assert 0.85 < float(structural.max()) <= 0.9 + 1e-6


def test_logical_regions_are_larger():
    areas = run(dataclasses.replace(PLAIN, shuffled=0.0), n=400)
    share = areas.masks.float().mean((1, 2, 3))
    assert float(share[areas.logical].mean()) > 1.2 * float(share[~areas.logical].mean())


def test_anomalies_keep_to_the_foreground_and_are_not_too_small():
    foreground = torch.zeros(200, 1, 64, 64, dtype=torch.bool)
    foreground[..., 20:40, 10:50] = True
    found = run(dataclasses.replace(PLAIN, logical=1.0), foreground=foreground)
    assert not (found.masks & ~foreground).any()
    assert int(found.masks.flatten(1).sum(1).min()) >= round(49 / 16)


def test_shares_of_zero_and_one():
    assert run(dataclasses.replace(PLAIN, logical=1.0)).logical.all()
    assert not run(dataclasses.replace(PLAIN, logical=0.0)).logical.any()
    assert not run(dataclasses.replace(PLAIN, logical=0.0, shuffled=1.0)).masks.any()  # of flat pictures


def test_the_generator_decides_everything():
    one, same, other = (run(Strategy(), n=8, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)


def test_patches_can_be_shuffled_in_the_logical_branch():
    """Nothing of a flat picture is seen to be shuffled, so that every anomaly that is seen is structural."""
    found = run(dataclasses.replace(PLAIN, shuffled=1.0, shuffled_is_logical=True))
    assert torch.equal(found.masks.flatten(1).any(1), ~found.logical)


def test_rectangles_are_rectangles_on_the_foreground():
    strategy = dataclasses.replace(PLAIN, shape="rectangles", shuffled=0.0)
    masks = run(strategy).masks
    rows, columns = masks.any(3).sum((1, 2)), masks.any(2).sum((1, 2))
    assert torch.equal(masks.flatten(1).sum(1), rows * columns)
    foreground = torch.zeros(200, 1, 64, 64, dtype=torch.bool)
    foreground[..., 20:40, 10:50] = True
    assert not (run(strategy, foreground=foreground).masks & ~foreground).any()


def test_textures_can_be_bytes():
    strategy = dataclasses.replace(PLAIN, logical=0.0, shuffled=0.0)
    floats, exact = torch.rand(5, 3, 64, 64), torch.Generator().manual_seed(0)
    found = simulate(torch.zeros(8, 3, 64, 64), exact, strategy, textures=(floats * 255).byte(), others=torch.zeros(8, 3, 64, 64))
    assert 0 < float(found.images.max()) <= 1
