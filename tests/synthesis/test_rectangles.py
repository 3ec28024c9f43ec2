"""Rectangles: sizes, counts and positions as in the published code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from adjobs.synthesis.rectangles import add_noise_rectangles, noise_rectangle_masks, random_rectangles, threshold_foreground
from tests.helpers.randomness import generator


def test_add_noise_rectangles_mask_is_exactly_what_changed():
    images = torch.full((16, 3, 64, 64), 2.0)  # a value that the noise never takes
    simulated = add_noise_rectangles(images, generator())
    changed = (simulated.images != images).any(1, keepdim=True)
    assert torch.equal(changed, simulated.masks)
    assert simulated.images[simulated.masks.expand_as(images)].max() <= 1


def test_add_noise_rectangles_zero_count_changes_nothing():
    images = torch.rand(2, 3, 32, 32)
    simulated = add_noise_rectangles(images, generator(), max_count=0)
    assert torch.equal(simulated.images, images)
    assert not simulated.masks.any()


@pytest.mark.parametrize("fill", ["uniform", "gaussian"])
def test_add_noise_rectangles_noise_covers_its_range(fill):
    simulated = add_noise_rectangles(torch.full((32, 3, 64, 64), 2.0), generator(), fill=fill)
    noise = simulated.images[simulated.masks.expand_as(simulated.images)]
    assert noise.min() >= 0
    assert noise.max() <= 1
    assert noise.min() < 0.05
    assert noise.max() > 0.95


def test_add_noise_rectangles_same_seed_gives_the_same_images():
    images = torch.rand(4, 3, 64, 64)
    first, same, other = (add_noise_rectangles(images, generator(seed)).images for seed in (5, 5, 6))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_add_noise_rectangles_image_without_foreground_stays_clean():
    images = torch.zeros(4, 3, 64, 64)
    assert not add_noise_rectangles(images, generator(), skip_background=True).masks.any()


def test_noise_rectangle_masks_sides_are_12_to_48_pixels_at_256():
    masks = noise_rectangle_masks(torch.zeros(400, 3, 256, 256), generator(), max_count=1).numpy()[:, 0]
    sides = [tuple(int(s.stop - s.start) for s in ndimage.find_objects(mask)[0]) for mask in masks.astype(int) if mask.any()]
    heights, widths = zip(*sides, strict=True)
    assert (min(heights), max(heights)) == (min(widths), max(widths)) == (12, 48)
    assert any(h != w for h, w in sides)
    assert 150 < len(sides) < 250  # none or one, equally likely
    for mask in masks:
        if mask.any():
            (box,) = ndimage.find_objects(mask.astype(int))
            assert mask[box].all()


def test_noise_rectangle_masks_one_image_in_five_stays_clean():
    masks = noise_rectangle_masks(torch.zeros(500, 3, 64, 64), generator(), max_count=4)
    assert 0.14 < 1 - float(masks.flatten(1).any(1).float().mean()) < 0.26


def test_noise_rectangle_masks_centres_lie_on_the_allowed_foreground():
    """A grey disc on black: no centre lies off the disc."""
    y, x = np.mgrid[:128, :128]
    disc = torch.from_numpy((np.hypot(y - 64, x - 64) < 40).astype(np.float32) * 0.5)
    images = disc.expand(64, 3, 128, 128)
    foreground = threshold_foreground(images)
    assert foreground[0, 0, 64, 64]
    assert not foreground[0, 0, 5, 5]
    masks = noise_rectangle_masks(images, generator(), max_count=1, allowed=foreground)[:, 0].numpy()
    for mask in masks:
        if mask.any():
            cy, cx = ndimage.center_of_mass(mask)
            assert np.hypot(cy - 64, cx - 64) < 41


def test_random_rectangles_have_sides_in_their_range_and_lie_inside():
    masks = random_rectangles(generator(), 300, (64, 128), count=1, sides=(0.25, 0.5))
    heights, widths = masks.any(3).sum((1, 2)), masks.any(2).sum((1, 2))
    assert (int(heights.min()), int(heights.max())) == (16, 32)
    assert (int(widths.min()), int(widths.max())) == (32, 64)
    assert torch.equal(masks.flatten(1).sum(1), heights * widths)
    assert masks.any(0).float().mean() > 0.95  # corners are rarely covered


def test_random_rectangles_zero_count_gives_empty_masks():
    assert not random_rectangles(generator(), 2, (8, 8), count=0, sides=(0.1, 0.2)).any()
