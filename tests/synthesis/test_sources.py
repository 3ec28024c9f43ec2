"""Sources of simulated anomalies: nothing is lost or made up, and each image draws for itself."""

from __future__ import annotations

import torch

from adjobs.synthesis.sources import jittered, others, shuffled_patches, toned, turned


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shuffled_patches_are_the_patches_in_another_order():
    """One colour for each patch of a 4 × 8 grid: the same colours, each still on a whole patch."""
    colours = torch.arange(32.0).view(1, 1, 4, 8).repeat_interleave(4, 2).repeat_interleave(2, 3)  # 16 × 16
    images = colours.repeat(3, 3, 1, 1)
    shuffled = shuffled_patches(images, gen(), (4, 8))
    corners = shuffled[:, :, ::4, ::2]
    assert torch.equal(corners.repeat_interleave(4, 2).repeat_interleave(2, 3), shuffled)
    assert all(sorted(corners[i, c].flatten().tolist()) == list(range(32)) for i in range(3) for c in range(3))
    assert torch.equal(shuffled[:, 0], shuffled[:, 2])  # colours of a pixel stay together
    assert not torch.equal(shuffled[0], shuffled[1])


def test_what_the_grid_does_not_divide_stays():
    images = torch.rand(2, 3, 18, 17, generator=gen())
    shuffled = shuffled_patches(images, gen(), (4, 8))
    assert torch.equal(shuffled[:, :, 16:], images[:, :, 16:])
    assert torch.equal(shuffled[..., 16:], images[..., 16:])
    torch.testing.assert_close(shuffled.sum(), images.sum())


def test_another_image_is_never_the_image_itself():
    every = torch.ones(4, dtype=torch.bool)
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    drawn = torch.stack([others(images, gen(seed), every)[:, 0, 0, 0] for seed in range(200)])
    assert not (drawn == torch.arange(4.0)).any()
    for i in range(4):
        counts = [int((drawn[:, i] == j).sum()) for j in range(4) if j != i]
        assert min(counts) > 40  # of 200, a third each
    assert torch.equal(others(images[:1], gen(), every[:1]), images[:1])


def test_only_what_is_allowed_is_another_image():
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    allowed = torch.tensor([True, True, False, False])
    drawn = torch.stack([others(images, gen(seed), allowed)[:, 0, 0, 0] for seed in range(50)])
    assert drawn[:, 0].unique().tolist() == [1]
    assert drawn[:, 1].unique().tolist() == [0]
    assert drawn[:, 2].unique().tolist() == [0, 1]


def test_turning_keeps_lengths_also_in_oblong_pictures():
    """A disc about the centre stays what it is, whatever the angle, as far as nothing is mirrored in."""
    for height, width in ((64, 64), (48, 96)):
        y, x = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
        radius = (y[:, None] ** 2 + x**2).sqrt()
        disc = (radius < 15).float().expand(8, 3, -1, -1)
        found = turned(disc, gen(), 90)
        assert float((found - disc)[..., radius < 23].abs().mean()) < 0.05
    half = (x > 0).float().expand(8, 3, height, -1)
    assert float((turned(half, gen(), 90) - half).abs().mean()) > 0.1


def test_mixed_precision_moves_nothing():
    images = torch.rand(4, 3, 64, 64, generator=gen())
    exact = turned(images, gen(), 90)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(turned(images, gen(), 90), exact)


def test_tones_stay_in_range_and_leave_the_order_of_grey_values():
    images = torch.rand(16, 3, 8, 8, generator=gen()) * 0.4 + 0.3
    found = toned(images, gen(1), 0.3)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert torch.equal(found.flatten(1).argsort(1), images.flatten(1).argsort(1))
    means = found.mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert 0.05 < float(means.abs().max()) <= 0.15 + 1e-6
    torch.testing.assert_close(toned(images, gen(), 0.0), images)


def test_jitter_changes_brightness_and_saturation_by_its_share():
    images = torch.full((400, 3, 2, 2), 0.5) + torch.tensor([0.1, 0.0, -0.1]).view(1, 3, 1, 1)
    found = jittered(images, torch.Generator().manual_seed(0), 0.2)
    grey, before = (x[:, 0] * 0.299 + x[:, 1] * 0.587 + x[:, 2] * 0.114 for x in (found, images))
    brightness = (grey / before)[:, 0, 0]
    colour = ((found[:, 0] - found[:, 2]) / 0.2)[:, 0, 0] / brightness
    for factor in (brightness, colour):
        assert 0.8 <= float(factor.min()) < 0.82
        assert 1.18 < float(factor.max()) <= 1.2 + 1e-6
    assert torch.equal(jittered(images, torch.Generator(), 0), images)
