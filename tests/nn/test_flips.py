"""Random flips."""

from __future__ import annotations

import pytest
import torch

from adjobs.nn.flips import LEFT_RIGHT, UPSIDE_DOWN, random_flip


@pytest.mark.parametrize("dim", [LEFT_RIGHT, UPSIDE_DOWN])
def test_random_flip_flips_half_of_the_images_by_the_generator(dim):
    images = torch.arange(800.0).view(100, 1, 2, 4)
    flipped = random_flip(images, torch.Generator().manual_seed(0), dim)
    unchanged = (flipped == images).flatten(1).all(1)
    assert 30 < int(unchanged.sum()) < 70
    torch.testing.assert_close(flipped[~unchanged], images[~unchanged].flip(dim))
    torch.testing.assert_close(flipped, random_flip(images, torch.Generator().manual_seed(0), dim))
