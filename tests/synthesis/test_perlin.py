"""Perlin noise and masks: what the construction promises, without another implementation."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import ndimage

from adjobs.synthesis import perlin
from adjobs.synthesis.perlin import perlin_masks, perlin_noise

SIZE = (64, 96)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_values_fill_but_never_leave_one():
    noise = perlin_noise(gen(), torch.full((64, 2), 8.0), SIZE, largest=8)
    assert noise.shape == (64, *SIZE)
    assert 0.8 < float(noise.abs().max()) <= 1
    assert abs(float(noise.mean())) < 0.02


def test_noise_vanishes_at_the_corners_of_cells(monkeypatch):
    """Four cells over four pixels would put corners between the pixels; without a turn, a shift of half a pixel hits them."""
    monkeypatch.setattr(perlin, "TURN", 0.0)
    # Pixel centres are at (i + ½) / n − ½ + ¾ = ¼ + (i + ½) / n of the side; with n = 2 and scale 4: cells 2 and 4, to the dot.
    noise = perlin_noise(gen(), torch.tensor([[4.0, 4.0]]), (2, 2), largest=4)
    torch.testing.assert_close(noise, torch.zeros(1, 2, 2))


def test_noise_is_smooth_and_finer_with_more_cells():
    steps = []
    for cells in (1.0, 4.0, 16.0):
        noise = perlin_noise(gen(), torch.full((16, 2), cells), (128, 128), largest=cells)
        steps.append(float((noise[:, 1:] - noise[:, :-1]).abs().max()))
    assert steps[0] < steps[1] < steps[2] < 0.6
    assert steps[0] < 0.05


def test_each_image_has_its_own_scale():
    noise = perlin_noise(gen(), torch.tensor([[1.0, 1.0], [16.0, 16.0]]), (128, 128), largest=16)
    rough = (noise[:, 1:] - noise[:, :-1]).abs().mean((1, 2))
    assert float(rough[1]) > 5 * float(rough[0])


def test_same_generator_same_masks_and_another_other_masks():
    arguments = (torch.full((4,), 3), torch.full((4,), 0.5), SIZE)
    one, same, other = (perlin_masks(gen(seed), *arguments, most=3) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_lower_threshold_gives_larger_masks_and_fewer_cells_fewer_pieces():
    def masks(exponent: int, threshold: float) -> torch.Tensor:
        return perlin_masks(gen(), torch.full((200,), exponent), torch.full((200,), threshold), (64, 64), most=exponent)

    assert float(masks(3, 0.4).float().mean()) > 1.2 * float(masks(3, 0.5).float().mean()) > 0
    few, many = (sum(ndimage.label(mask[0].numpy())[1] for mask in masks(exponent, 0.4)) for exponent in (1, 4))
    assert many > 2 * few > 0


@pytest.mark.parametrize("threshold", [0.5, 0.999])
def test_no_mask_is_smaller_than_the_least_area(threshold):
    masks = perlin_masks(gen(), torch.full((64,), 5), torch.full((64,), threshold), (64, 64), most=5, least=49)
    areas = masks.flatten(1).sum(1)
    assert int(areas.min()) >= 49
    if threshold > 0.99:
        assert areas.tolist() == [49] * 64


def test_masks_keep_to_where_they_are_allowed():
    allowed = torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    allowed[0, :, :, 32:] = True
    allowed[1, :, 10:13, 10:13] = True  # nine pixels, fewer than the least area
    masks = perlin_masks(gen(), torch.full((3,), 3), torch.full((3,), 0.5), (64, 64), most=3, allowed=allowed, least=49)
    assert not (masks[:2] & ~allowed[:2]).any()
    assert int(masks[0].sum()) >= 49
    assert int(masks[1].sum()) == 9
    assert int(masks[2].sum()) >= 49  # allowed nowhere: everywhere


def test_turns_reach_a_quarter_either_way():
    """A single strip of gradients seen under the drawn angles: the draw is uniform in ± 90°, so all four quarters occur."""
    assert math.isclose(perlin.TURN, math.pi / 2)
    noise = perlin_noise(gen(), torch.tensor([[1.0, 8.0]] * 200), (64, 64), largest=8)
    across = (noise[:, :, 1:] - noise[:, :, :-1]).abs().mean((1, 2))
    down = (noise[:, 1:] - noise[:, :-1]).abs().mean((1, 2))
    assert 0.25 < float((across > down).float().mean()) < 0.75
