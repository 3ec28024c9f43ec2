"""Rectangles of noise: sizes, counts and places as the published code draws them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from adjobs.synthesis.rectangles import boxes, foreground, add_noise_rectangles, rectangle_masks


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_mask_is_what_was_changed():
    images = torch.full((16, 3, 64, 64), 2.0)  # a value that no noise takes
    out = add_noise_rectangles(images, gen())
    changed = (out.images != images).any(1, keepdim=True)
    assert torch.equal(changed, out.masks)
    assert out.images[out.masks.expand_as(images)].max() <= 1


def test_single_rectangles_have_sides_of_12_to_48_pixels_at_256():
    masks = rectangle_masks(torch.zeros(400, 3, 256, 256), gen(), most=1).numpy()[:, 0]
    sides = [tuple(int(s.stop - s.start) for s in ndimage.find_objects(mask)[0]) for mask in masks.astype(int) if mask.any()]
    heights, widths = zip(*sides, strict=True)
    assert (min(heights), max(heights)) == (min(widths), max(widths)) == (12, 48)
    assert any(h != w for h, w in sides)
    assert 150 < len(sides) < 250  # none or one, equally likely
    for mask in masks:
        if mask.any():
            (box,) = ndimage.find_objects(mask.astype(int))
            assert mask[box].all()


def test_some_images_stay_clean():
    share = 1 - rectangle_masks(torch.zeros(500, 3, 64, 64), gen(), most=4).flatten(1).any(1).float().mean()
    assert 0.14 < float(share) < 0.26  # one in five


def test_zero_rectangles_change_nothing():
    images = torch.rand(2, 3, 32, 32)
    out = add_noise_rectangles(images, gen(), most=0)
    assert torch.equal(out.images, images)
    assert not out.masks.any()


@pytest.mark.parametrize("fill", ["uniform", "gaussian"])
def test_noise_stays_in_range_and_covers_it(fill):
    out = add_noise_rectangles(torch.full((32, 3, 64, 64), 2.0), gen(), fill=fill)
    noise = out.images[out.masks.expand_as(out.images)]
    assert noise.min() >= 0
    assert noise.max() <= 1
    assert noise.min() < 0.05
    assert noise.max() > 0.95


def test_the_same_generator_state_draws_the_same():
    images = torch.rand(4, 3, 64, 64)
    assert torch.equal(add_noise_rectangles(images, gen(5)).images, add_noise_rectangles(images, gen(5)).images)
    assert not torch.equal(add_noise_rectangles(images, gen(5)).images, add_noise_rectangles(images, gen(6)).images)


def test_centres_lie_on_the_foreground_when_asked():
    """A grey disc on black: with the background skipped no centre is off the disc."""
    y, x = np.mgrid[:128, :128]
    disc = torch.from_numpy((np.hypot(y - 64, x - 64) < 40).astype(np.float32) * 0.5)
    images = disc.expand(64, 3, 128, 128)
    seen = foreground(images[:1])[0, 0]
    assert seen[64, 64]
    assert not seen[5, 5]
    masks = rectangle_masks(images, gen(), most=1, allowed=foreground(images))[:, 0].numpy()
    for mask in masks:
        if mask.any():
            cy, cx = ndimage.center_of_mass(mask)
            assert np.hypot(cy - 64, cx - 64) < 41


def test_nothing_is_drawn_where_all_is_background():
    images = torch.zeros(4, 3, 64, 64)
    assert not add_noise_rectangles(images, gen(), skip_background=True).masks.any()


def test_boxes_have_sides_in_their_range_and_lie_inside():
    masks = boxes(torch.Generator().manual_seed(0), 300, (64, 128), count=1, sides=(0.25, 0.5))
    rows, columns = masks.any(3).sum((1, 2)), masks.any(2).sum((1, 2))
    assert (int(rows.min()), int(rows.max())) == (16, 32)
    assert (int(columns.min()), int(columns.max())) == (32, 64)
    assert torch.equal(masks.flatten(1).sum(1), rows * columns)
    assert masks.any(0).float().mean() > 0.95  # corners are rarely reached
    assert not boxes(torch.Generator(), 2, (8, 8), count=0, sides=(0.1, 0.2)).any()
