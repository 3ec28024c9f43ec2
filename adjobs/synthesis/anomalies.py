"""Simulated anomalies (SLSG, Sec. 3.2, eq. 1): structural ones, foreign or shuffled, and logical ones, taken from other parts.

I_A = (1 − M) I + M (δ I_N + (1 − δ) I) with a mask M of Perlin noise on the foreground, a source I_N and an opacity δ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from adjobs.synthesis.perlin import perlin_masks
from adjobs.synthesis.rectangles import boxes
from adjobs.synthesis.sources import shuffled_patches, toned, turned
from adjobs.types import Simulated

PIXELS = 256  # side of the pictures that areas and lengths in pixels are for
# Sides of rectangular noise, which the paper tries (Table 5) without giving any; ours: logical ones are larger.
STRUCTURAL_SIDES, LOGICAL_SIDES = (10 / PIXELS, 80 / PIXELS), (40 / PIXELS, 150 / PIXELS)


@dataclass(frozen=True)
class Strategy:
    """How anomalies are simulated. Shares are probabilities. Exponents, thresholds, weights and area are the authors' code's.

    Attributes:
        logical: share of logical anomalies (the paper: "the same probability").
        shuffled: share of anomalies of one kind whose source is the picture itself with its patches shuffled (half, as MemSeg).
        shuffled_is_logical: whether that kind is the logical one (published code) or the structural one (paper).
        shape: of the masks.
        structural_exponent, logical_exponent: largest power of two of Perlin cells over a side.
        structural_threshold, logical_threshold: of the noise; a lower one gives larger regions.
        veiled: share of the structural anomalies that keep three quarters of the picture (1 − δ).
        faint: the others of them keep up to this share.
        logical_faint: logical anomalies keep up to this share.
        grid: rows and columns of patches to shuffle.
        rotation: of other pictures and of textures, degrees either way ("a random rotation", without a number).
        tone: change of the source's contrast and brightness ("adjustments of brightness and contrast"; ours).
        least_area: smallest mask, pixels at 256 × 256, before what is not visible is taken out of it.
        visible: pixels that change by less than this in every channel do not count as anomalous.
    """

    logical: float = 0.5
    shuffled: float = 0.5
    shuffled_is_logical: bool = False
    shape: Literal["perlin", "rectangles"] = "perlin"
    structural_exponent: int = 3
    logical_exponent: int = 2
    structural_threshold: float = 0.5
    logical_threshold: float = 0.4
    veiled: float = 0.25
    faint: float = 0.9
    logical_faint: float = 0.25
    grid: tuple[int, int] = (4, 8)
    rotation: float = 90.0
    tone: float = 0.2
    least_area: int = 49
    visible: float = 1 / 255


def simulate(
    images: Tensor,
    generator: Generator,
    strategy: Strategy,
    *,
    textures: Tensor,
    others: Tensor,
    foreground: Tensor | None = None,
) -> Simulated:
    """Put an anomaly on every image; one whose source does not differ from the image stays without.

    Args:
        images: ``(B, 3, H, W)`` normal images in [0, 1].
        generator: source of all draws, on the images' device.
        strategy: shares and ranges.
        textures: ``(T, 3, H, W)``, T ≥ 1, in [0, 1] or uint8, foreign sources of structural anomalies.
        others: ``(B, 3, H, W)`` for each image a normal one of another part, the source of logical anomalies.
        foreground: ``(B, 1, H, W)`` bool, where anomalies may lie; None: everywhere.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=images.device)

    batch = len(images)
    logical = uniform(batch) < strategy.logical
    masks = _masks(images, generator, strategy, logical, foreground)
    sources = _sources(images, generator, strategy, textures, others, logical)
    kept = uniform(batch) * torch.where(logical, strategy.logical_faint, strategy.faint)
    kept = torch.where(~logical & (uniform(batch) < strategy.veiled), 0.75, kept).view(-1, 1, 1, 1)
    changed = torch.where(masks, torch.lerp(toned(sources, generator, strategy.tone), images, kept.to(images.dtype)), images)
    seen = (changed - images).abs().amax(1, keepdim=True) >= strategy.visible
    return Simulated(torch.where(seen, changed, images), seen, logical)


def _masks(images: Tensor, generator: Generator, strategy: Strategy, logical: Tensor, foreground: Tensor | None) -> Tensor:
    """M of each image, ``(B, 1, H, W)`` bool."""
    batch, _, height, width = images.shape
    if strategy.shape == "rectangles":
        kinds = [boxes(generator, batch, (height, width), count=1, sides=sides) for sides in (STRUCTURAL_SIDES, LOGICAL_SIDES)]
        found = torch.where(logical.view(-1, 1, 1, 1), kinds[1], kinds[0])
        return found if foreground is None else found & foreground
    return perlin_masks(
        generator,
        torch.where(logical, strategy.logical_exponent, strategy.structural_exponent),
        torch.where(logical, strategy.logical_threshold, strategy.structural_threshold),
        (height, width),
        most=max(strategy.logical_exponent, strategy.structural_exponent),
        allowed=foreground,
        least=round(strategy.least_area * height * width / PIXELS**2),
    )


def _sources(
    images: Tensor, generator: Generator, strategy: Strategy, textures: Tensor, others: Tensor, logical: Tensor
) -> Tensor:
    """I_N of each image: another part, the image with its patches shuffled, or a texture."""
    foreign = textures[torch.randint(len(textures), (len(images),), generator=generator, device=images.device)]
    if not foreign.is_floating_point():
        foreign = foreign.to(images.dtype) / 255
    itself = torch.rand(len(images), generator=generator, device=images.device) < strategy.shuffled
    itself &= logical == strategy.shuffled_is_logical
    foreign = turned(torch.where(logical.view(-1, 1, 1, 1), others, foreign), generator, strategy.rotation)
    return torch.where(itself.view(-1, 1, 1, 1), shuffled_patches(images, generator, strategy.grid), foreign)
