"""Random image transforms: what they preserve, and independent draws for each image."""

from __future__ import annotations

import torch

from adjobs.synthesis.transforms import adjust_tone, draw_other_images, jitter_colour, rotate_randomly, shuffle_patches
from tests.helpers.randomness import generator


def test_shuffle_patches_permutes_whole_patches():
    """One colour per patch of a 4 × 8 grid: the same colours afterwards, each still on a whole patch."""
    colours = torch.arange(32.0).view(1, 1, 4, 8).repeat_interleave(4, 2).repeat_interleave(2, 3)  # 16 × 16
    images = colours.repeat(3, 3, 1, 1)
    shuffled = shuffle_patches(images, generator(), (4, 8))
    corners = shuffled[:, :, ::4, ::2]
    assert torch.equal(corners.repeat_interleave(4, 2).repeat_interleave(2, 3), shuffled)
    assert all(sorted(corners[i, c].flatten().tolist()) == list(range(32)) for i in range(3) for c in range(3))
    assert torch.equal(shuffled[:, 0], shuffled[:, 2])  # the channels of a pixel stay together
    assert not torch.equal(shuffled[0], shuffled[1])


def test_shuffle_patches_pixels_outside_the_grid_are_unchanged():
    images = torch.rand(2, 3, 18, 17, generator=generator())
    shuffled = shuffle_patches(images, generator(), (4, 8))
    assert torch.equal(shuffled[:, :, 16:], images[:, :, 16:])
    assert torch.equal(shuffled[..., 16:], images[..., 16:])
    torch.testing.assert_close(shuffled.sum(), images.sum())


def test_draw_other_images_is_uniform_and_never_the_image_itself():
    allowed = torch.ones(4, dtype=torch.bool)
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    drawn = torch.stack([draw_other_images(images, generator(seed), allowed)[:, 0, 0, 0] for seed in range(200)])
    assert not (drawn == torch.arange(4.0)).any()
    for i in range(4):
        counts = [int((drawn[:, i] == j).sum()) for j in range(4) if j != i]
        assert min(counts) > 40  # of 200, a third each


def test_draw_other_images_single_image_is_itself():
    images = torch.rand(1, 3, 2, 2)
    assert torch.equal(draw_other_images(images, generator(), torch.ones(1, dtype=torch.bool)), images)


def test_draw_other_images_takes_only_allowed_ones():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    allowed = torch.tensor([True, True, False, False])
    drawn = torch.stack([draw_other_images(images, generator(seed), allowed)[:, 0, 0, 0] for seed in range(50)])
    assert drawn[:, 0].unique().tolist() == [1]
    assert drawn[:, 1].unique().tolist() == [0]
    assert drawn[:, 2].unique().tolist() == [0, 1]


def test_rotate_randomly_preserves_lengths_in_oblong_images():
    """A centred disc is invariant under rotation, wherever the border is not mirrored in."""
    for height, width in ((64, 64), (48, 96)):
        y, x = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
        radius = (y[:, None] ** 2 + x**2).sqrt()
        disc = (radius < 15).float().expand(8, 3, -1, -1)
        rotated = rotate_randomly(disc, generator(), 90)
        assert float((rotated - disc)[..., radius < 23].abs().mean()) < 0.05
    half = (x > 0).float().expand(8, 3, height, -1)
    assert float((rotate_randomly(half, generator(), 90) - half).abs().mean()) > 0.1


def test_rotate_randomly_is_exact_under_autocast():
    images = torch.rand(4, 3, 64, 64, generator=generator())
    expected = rotate_randomly(images, generator(), 90)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rotate_randomly(images, generator(), 90), expected)


def test_adjust_tone_stays_in_range_and_preserves_the_order_of_grey_values():
    images = torch.rand(16, 3, 8, 8, generator=generator()) * 0.4 + 0.3
    adjusted = adjust_tone(images, generator(1), 0.3)
    assert 0 <= float(adjusted.min()) <= float(adjusted.max()) <= 1
    assert torch.equal(adjusted.flatten(1).argsort(1), images.flatten(1).argsort(1))
    shift = adjusted.mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert 0.05 < float(shift.abs().max()) <= 0.15 + 1e-6


def test_adjust_tone_zero_strength_changes_nothing():
    images = torch.rand(16, 3, 8, 8, generator=generator())
    torch.testing.assert_close(adjust_tone(images, generator(), 0.0), images)


def test_jitter_colour_scales_brightness_and_saturation_within_the_strength():
    images = torch.full((400, 3, 2, 2), 0.5) + torch.tensor([0.1, 0.0, -0.1]).view(1, 3, 1, 1)
    jittered = jitter_colour(images, generator(), 0.2)
    grey_after, grey_before = (x[:, 0] * 0.299 + x[:, 1] * 0.587 + x[:, 2] * 0.114 for x in (jittered, images))
    brightness = (grey_after / grey_before)[:, 0, 0]
    saturation = ((jittered[:, 0] - jittered[:, 2]) / 0.2)[:, 0, 0] / brightness
    for factor in (brightness, saturation):
        assert 0.8 <= float(factor.min()) < 0.82
        assert 1.18 < float(factor.max()) <= 1.2 + 1e-6


def test_jitter_colour_zero_strength_changes_nothing():
    images = torch.rand(4, 3, 2, 2)
    assert torch.equal(jitter_colour(images, generator(), 0), images)
