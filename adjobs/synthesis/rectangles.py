"""Rectangular masks, and rectangles of noise as the simplest simulated anomaly (CDO, Sec. III-C and Fig. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adjobs.types import Simulated

# Half side lengths as fractions of the image, from the authors' code at 256 px: 6 to 24 px.
MIN_HALF, MAX_HALF = 1 / 40, 1 / 10
MAX_TRIES = 200  # centres tried for a rectangle that must lie on the foreground before it is dropped


def add_noise_rectangles(
    images: Tensor, generator: Generator, *, max_count: int = 4, fill: str = "uniform", skip_background: bool = False
) -> Simulated:
    """Replace 0 to ``max_count`` rectangles of each image by noise.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        generator: on the images' device.
        max_count: the number of rectangles is uniform on {0, …, max_count}, so that some images stay clean.
        fill: ``uniform`` (integers 0 to 254, as in the published code) or ``gaussian`` (as in the paper; mean ½, clipped).
        skip_background: centres must lie on the foreground, see `threshold_foreground`.
    """
    if max_count == 0:
        return Simulated(images, torch.zeros_like(images[:, :1], dtype=torch.bool))
    allowed = threshold_foreground(images) if skip_background else None
    masks = noise_rectangle_masks(images, generator, max_count=max_count, allowed=allowed)
    return Simulated(torch.where(masks, noise_like(images, generator, fill), images), masks)


def noise_like(images: Tensor, generator: Generator, fill: str) -> Tensor:
    """Noise for every pixel and channel, in [0, 1]."""
    if fill == "gaussian":
        normal = torch.randn(images.shape, generator=generator, device=images.device)
        return (0.5 + normal / 4).clamp(0, 1)  # ± 2 σ span the grey values
    return torch.randint(0, 255, images.shape, generator=generator, device=images.device).to(images.dtype) / 255


def noise_rectangle_masks(images: Tensor, generator: Generator, *, max_count: int, allowed: Tensor | None = None) -> Tensor:
    """Masks ``(B, 1, H, W)`` bool of 0 to ``max_count`` rectangles that lie inside the image.

    Half height and half width are independent uniform integers in [⌊side / 40⌋, ⌊side / 10⌋ − 1]. The centre is uniform over the
    positions at which the rectangle fits, restricted to ``allowed`` ``(B, 1, H, W)`` bool if that is given.
    """
    batch, _, height, width = images.shape
    shape = (batch, max_count)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, device=images.device)

    count = torch.randint(0, max_count + 1, (batch, 1), generator=generator, device=images.device)
    half_h, half_w = _half_lengths(uniform(*shape), height), _half_lengths(uniform(*shape), width)
    tries = 1 if allowed is None else MAX_TRIES
    # Centres (B, max_count, tries); the largest is side − half, because the rectangle is [centre − half, centre + half).
    centre_y = half_h[..., None] + (uniform(*shape, tries) * (height - 2 * half_h[..., None] + 1)).floor()
    centre_x = half_w[..., None] + (uniform(*shape, tries) * (width - 2 * half_w[..., None] + 1)).floor()
    valid = torch.arange(max_count, device=images.device)[None] < count
    if allowed is not None:
        pixels = (centre_y.clamp(max=height - 1) * width + centre_x.clamp(max=width - 1)).long()
        is_allowed = allowed.flatten(1).gather(1, pixels.flatten(1)).view_as(pixels)
        first_allowed = is_allowed.to(torch.uint8).argmax(-1, keepdim=True)
        valid = valid & is_allowed.any(-1)
        centre_y, centre_x = centre_y.gather(-1, first_allowed), centre_x.gather(-1, first_allowed)
    rows = _is_covered(height, centre_y[..., 0], half_h)
    columns = _is_covered(width, centre_x[..., 0], half_w)
    return (rows[..., :, None] & columns[..., None, :] & valid[..., None, None]).any(1, keepdim=True)


def random_rectangles(
    generator: Generator, batch: int, size: tuple[int, int], *, count: int, sides: tuple[float, float]
) -> Tensor:
    """Masks ``(B, 1, H, W)`` bool of ``count`` rectangles each, with uniform side lengths and positions inside the image.

    Args:
        generator: on the device on which the masks are drawn.
        batch: B.
        size: height and width H, W in pixels.
        count: rectangles per image; they may overlap.
        sides: shortest and longest side, as fractions of the image's.
    """
    shape = (batch, count, 4)
    draw = torch.rand(shape, generator=generator, device=generator.device)
    covered = []
    for i, side in enumerate(size):
        length = (side * (sides[0] + draw[..., i] * (sides[1] - sides[0]))).round().clamp(1, side)
        start = (draw[..., 2 + i] * (side - length + 1)).floor()
        position = torch.arange(side, device=generator.device)
        covered.append((position >= start[..., None]) & (position < (start + length)[..., None]))
    rows, columns = covered
    return (rows[..., :, None] & columns[..., None, :]).any(1, keepdim=True)


def threshold_foreground(images: Tensor) -> Tensor:
    """Foreground ``(B, 1, H, W)`` bool: neither nearly black nor nearly white (grey < 30 or > 220 of 255).

    As in the authors' code the background is median-filtered (7 px at 256 px) and dilated (19 px at 256 px), scaled to the image.
    """
    grey = 255 * (0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:])
    background = ((grey < 30) | (grey > 220)).to(images.dtype)
    median, dilation = _odd(images.shape[-1] * 7 / 256), _odd(images.shape[-1] * 19 / 256)
    # The median of a binary image is its majority.
    background = (F.avg_pool2d(background, median, 1, median // 2) > 0.5).to(images.dtype)
    return F.max_pool2d(background, dilation, 1, dilation // 2) < 0.5


def _half_lengths(uniform: Tensor, side: int) -> Tensor:
    low = max(1, int(side * MIN_HALF))
    high = max(low, int(side * MAX_HALF) - 1)
    return low + (uniform * (high - low + 1)).floor()


def _is_covered(side: int, centre: Tensor, half: Tensor) -> Tensor:
    """``(B, n, side)`` bool: positions in [centre − half, centre + half)."""
    position = torch.arange(side, device=centre.device)
    return (position >= (centre - half)[..., None]) & (position < (centre + half)[..., None])


def _odd(size: float) -> int:
    return max(1, int(size) | 1)
