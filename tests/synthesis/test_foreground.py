"""Otsu's foreground: either polarity, pictures without background, and agreement with an exhaustive search."""

from __future__ import annotations

import numpy as np
import torch

from adjobs.synthesis.foreground import _cuts, level_foreground, otsu_foreground


def disc(inside: float, outside: float, radius: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture ``(3, 64, 64)`` of a disc, with some noise, and where the disc is."""
    y, x = np.mgrid[:64, :64]
    mask = (y - 32) ** 2 + (x - 32) ** 2 < radius**2
    grey = np.where(mask, inside, outside) + np.random.default_rng(0).normal(0, 0.02, mask.shape)
    return torch.from_numpy(grey).float().expand(3, -1, -1), torch.from_numpy(mask)


def test_dark_and_light_parts_are_found_on_the_other_background():
    for inside, outside in ((0.8, 0.2), (0.2, 0.8), (0.5, 0.35)):
        image, mask = disc(inside, outside)
        assert torch.equal(otsu_foreground(image[None])[0, 0], mask)


def test_a_part_that_fills_the_picture_is_all_foreground():
    rng = np.random.default_rng(0)
    texture = torch.from_numpy(rng.normal(0.5, 0.02, (1, 3, 64, 64))).float().clamp(0, 1)
    texture[0, :, 30, 30] = 1.0  # one bright pixel: Otsu cuts it off, and it is no part
    found = otsu_foreground(torch.cat([texture, torch.full_like(texture, 0.3)]))
    assert found[1].all()
    tiny, _ = disc(0.9, 0.1, radius=3)
    assert otsu_foreground(tiny[None]).all()


def test_grey_values_of_one_kind_are_no_foreground_and_background():
    """Noise is cut in half by any threshold; a smooth gradient, too."""
    ramp = torch.linspace(0.2, 0.8, 64).expand(3, 64, 64)
    noise = torch.from_numpy(np.random.default_rng(0).normal(0.5, 0.1, (1, 64, 64))).float().clamp(0, 1).expand(3, -1, -1)
    assert otsu_foreground(torch.stack([ramp, noise])).all()
    level = (noise[:1] * 255).round().long()
    assert abs(float(_cuts(level)[1]) - 2 / np.pi) < 0.02


def test_pictures_of_a_batch_do_not_mix():
    images = torch.stack([disc(0.8, 0.2)[0], disc(0.2, 0.8)[0]])
    together = otsu_foreground(images)
    assert all(torch.equal(together[i], otsu_foreground(images[i : i + 1])[0]) for i in range(2))


def test_the_threshold_has_the_most_variance_between_the_classes():
    level = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 16, 16)) ** 2 // 255)

    def between(values: np.ndarray, t: int) -> float:
        low, high = values[values <= t], values[values > t]
        return 0.0 if not len(low) or not len(high) else len(low) * len(high) * float(low.mean() - high.mean()) ** 2

    for picture, found in zip(level.numpy(), _cuts(level)[0].tolist(), strict=True):
        best = max(between(picture.ravel(), t) for t in range(256))
        assert np.isclose(between(picture.ravel(), found), best)


def test_a_level_of_grey_can_be_given_with_its_side():
    image, mask = disc(0.8, 0.2)
    assert torch.equal(level_foreground(image[None], 0.5, brighter=True)[0, 0], mask)
    assert torch.equal(level_foreground(image[None], 0.5, brighter=False)[0, 0], ~mask)
