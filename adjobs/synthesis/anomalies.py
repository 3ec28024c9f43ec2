"""Simulated anomalies (SLSG, Sec. 3.2, eq. 1): structural (textures, shuffled patches) and logical (regions of other images).

I_A = (1 − M) I + M (δ I_N + (1 − δ) I) with a mask M on the foreground, a source image I_N and an opacity δ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from adjobs.synthesis.perlin import perlin_masks
from adjobs.synthesis.rectangles import random_rectangles
from adjobs.synthesis.transforms import adjust_tone, rotate_randomly, shuffle_patches
from adjobs.types import Simulated

REFERENCE_SIZE = 256  # side in pixels of the images to which areas and lengths in pixels refer
# Side lengths of rectangular masks as fractions of the image. The paper tries rectangles (Table 5) but gives no sizes; these are
# ours, with larger ones for logical anomalies.
STRUCTURAL_SIDES = (10 / REFERENCE_SIZE, 80 / REFERENCE_SIZE)
LOGICAL_SIDES = (40 / REFERENCE_SIZE, 150 / REFERENCE_SIZE)
FAINT_TRANSPARENCY = 0.75  # 1 − δ of faint structural anomalies


@dataclass(frozen=True)
class SimulationConfig:
    """How anomalies are simulated. Exponents, thresholds, transparencies and the minimum area are those of the authors' code.

    Attributes:
        logical_fraction: probability that an anomaly is logical (paper: "the same probability").
        shuffled_fraction: probability, within one of the two branches, that the source is the image itself with its patches
            shuffled (MemSeg: 0.5).
        shuffled_is_logical: that branch is the logical one (published code), not the structural one (paper).
        mask_shape: Perlin noise or rectangles.
        structural_exponent, logical_exponent: Perlin noise has up to 2^exponent cells per side.
        structural_threshold, logical_threshold: the mask is where the noise exceeds this; lower values give larger regions.
        faint_fraction: fraction of the structural anomalies with a fixed transparency 1 − δ of 0.75.
        structural_max_transparency: upper bound of 1 − δ for the other structural anomalies; uniform from 0.
        logical_max_transparency: the same for logical anomalies.
        patch_grid: rows and columns of the patches that are shuffled.
        max_rotation: other images and textures are rotated by up to this many degrees either way ("a random rotation").
        tone_strength: how much contrast and brightness of the source vary, see `adjust_tone` (the paper gives no number).
        min_area: smallest mask, in pixels at 256 × 256, before invisible pixels are removed from it.
        min_visible_change: pixels that change by less than this in every channel are restored and not masked.
    """

    logical_fraction: float = 0.5
    shuffled_fraction: float = 0.5
    shuffled_is_logical: bool = False
    mask_shape: Literal["perlin", "rectangles"] = "perlin"
    structural_exponent: int = 3
    logical_exponent: int = 2
    structural_threshold: float = 0.5
    logical_threshold: float = 0.4
    faint_fraction: float = 0.25
    structural_max_transparency: float = 0.9
    logical_max_transparency: float = 0.25
    patch_grid: tuple[int, int] = (4, 8)
    max_rotation: float = 90.0
    tone_strength: float = 0.2
    min_area: int = 49
    min_visible_change: float = 1 / 255


def simulate_anomalies(
    images: Tensor,
    generator: Generator,
    config: SimulationConfig,
    *,
    textures: Tensor,
    other_images: Tensor,
    foreground: Tensor | None = None,
) -> Simulated:
    """Simulate one anomaly per image. The mask is empty where the source does not differ from the image.

    Args:
        images: ``(B, 3, H, W)`` normal images in [0, 1].
        generator: on the images' device.
        config: probabilities and ranges.
        textures: ``(T, 3, H, W)``, T ≥ 1, in [0, 1] or uint8; sources of structural anomalies.
        other_images: ``(B, 3, H, W)``, for each image a different normal image; sources of logical anomalies.
        foreground: ``(B, 1, H, W)`` bool, where anomalies may lie; None: anywhere.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=images.device)

    batch = len(images)
    logical = uniform(batch) < config.logical_fraction
    masks = _draw_masks(images, generator, config, logical, foreground)
    sources = _draw_sources(images, generator, config, textures, other_images, logical)
    max_transparency = torch.where(logical, config.logical_max_transparency, config.structural_max_transparency)
    transparency = uniform(batch) * max_transparency
    faint = ~logical & (uniform(batch) < config.faint_fraction)
    transparency = torch.where(faint, FAINT_TRANSPARENCY, transparency).view(-1, 1, 1, 1)
    blended = torch.lerp(adjust_tone(sources, generator, config.tone_strength), images, transparency.to(images.dtype))
    changed = torch.where(masks, blended, images)
    visible = (changed - images).abs().amax(1, keepdim=True) >= config.min_visible_change
    return Simulated(torch.where(visible, changed, images), visible, logical)


def _draw_masks(
    images: Tensor, generator: Generator, config: SimulationConfig, logical: Tensor, foreground: Tensor | None
) -> Tensor:
    """M of each image, ``(B, 1, H, W)`` bool."""
    batch, _, height, width = images.shape
    if config.mask_shape == "rectangles":
        structural_masks, logical_masks = (
            random_rectangles(generator, batch, (height, width), count=1, sides=sides)
            for sides in (STRUCTURAL_SIDES, LOGICAL_SIDES)
        )
        masks = torch.where(logical.view(-1, 1, 1, 1), logical_masks, structural_masks)
        return masks if foreground is None else masks & foreground
    return perlin_masks(
        generator,
        torch.where(logical, config.logical_exponent, config.structural_exponent),
        torch.where(logical, config.logical_threshold, config.structural_threshold),
        (height, width),
        max_exponent=max(config.logical_exponent, config.structural_exponent),
        allowed=foreground,
        min_area=round(config.min_area * height * width / REFERENCE_SIZE**2),
    )


def _draw_sources(
    images: Tensor, generator: Generator, config: SimulationConfig, textures: Tensor, other_images: Tensor, logical: Tensor
) -> Tensor:
    """I_N of each image: a texture, another image, or the image itself with its patches shuffled."""
    foreign = textures[torch.randint(len(textures), (len(images),), generator=generator, device=images.device)]
    if not foreign.is_floating_point():
        foreign = foreign.to(images.dtype) / 255
    shuffled = torch.rand(len(images), generator=generator, device=images.device) < config.shuffled_fraction
    shuffled &= logical == config.shuffled_is_logical
    foreign = torch.where(logical.view(-1, 1, 1, 1), other_images, foreign)
    foreign = rotate_randomly(foreign, generator, config.max_rotation)
    return torch.where(shuffled.view(-1, 1, 1, 1), shuffle_patches(images, generator, config.patch_grid), foreign)
