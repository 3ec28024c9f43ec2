"""Otsu's foreground: either polarity, images without background, and agreement with an exhaustive search."""

from __future__ import annotations

import numpy as np
import torch

from adjobs.synthesis.foreground import _otsu_thresholds, level_foreground, otsu_foreground


def disc(inside: float, outside: float, radius: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """An image ``(3, 64, 64)`` of a disc with some noise, and the mask of the disc."""
    y, x = np.mgrid[:64, :64]
    mask = (y - 32) ** 2 + (x - 32) ** 2 < radius**2
    grey = np.where(mask, inside, outside) + np.random.default_rng(0).normal(0, 0.02, mask.shape)
    return torch.from_numpy(grey).float().expand(3, -1, -1), torch.from_numpy(mask)


def test_otsu_foreground_finds_dark_and_bright_parts():
    for inside, outside in ((0.8, 0.2), (0.2, 0.8), (0.5, 0.35)):
        image, mask = disc(inside, outside)
        assert torch.equal(otsu_foreground(image[None])[0, 0], mask)


def test_otsu_foreground_part_that_fills_the_image_is_all_foreground():
    rng = np.random.default_rng(0)
    texture = torch.from_numpy(rng.normal(0.5, 0.02, (1, 3, 64, 64))).float().clamp(0, 1)
    texture[0, :, 30, 30] = 1.0  # one bright pixel, which Otsu's threshold would separate
    foreground = otsu_foreground(torch.cat([texture, torch.full_like(texture, 0.3)]))
    assert foreground[1].all()
    tiny, _ = disc(0.9, 0.1, radius=3)
    assert otsu_foreground(tiny[None]).all()


def test_otsu_foreground_single_population_of_grey_values_is_all_foreground():
    """Any threshold splits noise or a smooth gradient in half."""
    ramp = torch.linspace(0.2, 0.8, 64).expand(3, 64, 64)
    noise = torch.from_numpy(np.random.default_rng(0).normal(0.5, 0.1, (1, 64, 64))).float().clamp(0, 1).expand(3, -1, -1)
    assert otsu_foreground(torch.stack([ramp, noise])).all()
    levels = (noise[:1] * 255).round().long()
    assert abs(float(_otsu_thresholds(levels)[1]) - 2 / np.pi) < 0.02


def test_otsu_foreground_images_of_a_batch_are_independent():
    images = torch.stack([disc(0.8, 0.2)[0], disc(0.2, 0.8)[0]])
    batched = otsu_foreground(images)
    assert all(torch.equal(batched[i], otsu_foreground(images[i : i + 1])[0]) for i in range(2))


def test_otsu_thresholds_maximise_the_variance_between_classes():
    levels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 16, 16)) ** 2 // 255)

    def between(values: np.ndarray, threshold: int) -> float:
        low, high = values[values <= threshold], values[values > threshold]
        return 0.0 if not len(low) or not len(high) else len(low) * len(high) * float(low.mean() - high.mean()) ** 2

    for image, threshold in zip(levels.numpy(), _otsu_thresholds(levels)[0].tolist(), strict=True):
        best = max(between(image.ravel(), candidate) for candidate in range(256))
        assert np.isclose(between(image.ravel(), threshold), best)


def test_level_foreground_selects_one_side_of_the_level():
    image, mask = disc(0.8, 0.2)
    assert torch.equal(level_foreground(image[None], 0.5, brighter=True)[0, 0], mask)
    assert torch.equal(level_foreground(image[None], 0.5, brighter=False)[0, 0], ~mask)
