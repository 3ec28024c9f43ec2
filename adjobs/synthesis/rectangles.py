"""Rectangles of noise (CDO, Sec. III-C and Fig. 3): the simplest simulated anomaly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adjobs.types import Simulated

# Side lengths as shares of the image, from the authors' code at 256 px: half sides of 6 to 24 px.
MIN_HALF, MAX_HALF = 1 / 40, 1 / 10
TRIES = 200  # centres tried before a rectangle that must lie on foreground is given up


def perturb(
    images: Tensor, generator: Generator, *, most: int = 4, fill: str = "uniform", skip_background: bool = False
) -> Simulated:
    """Replace 0 to ``most`` rectangles of each image by noise.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        generator: source of all draws, on the images' device.
        most: largest number of rectangles; the number is uniform on {0, …, most}, so that some images stay clean.
        fill: ``uniform`` (integers 0 to 254, as the published code) or ``gaussian`` (as the paper says; mean ½, clipped).
        skip_background: centres must lie on foreground, see ``foreground``.
    """
    if most == 0:
        return Simulated(images, torch.zeros_like(images[:, :1], dtype=torch.bool))
    masks = rectangle_masks(images, generator, most=most, allowed=foreground(images) if skip_background else None)
    return Simulated(torch.where(masks, noise_like(images, generator, fill), images), masks)


def noise_like(images: Tensor, generator: Generator, fill: str) -> Tensor:
    """Noise for every pixel and channel, in [0, 1]."""
    if fill == "gaussian":
        normal = torch.randn(images.shape, generator=generator, device=images.device)
        return (0.5 + normal / 4).clamp(0, 1)  # ± 2 σ span the grey values
    return torch.randint(0, 255, images.shape, generator=generator, device=images.device).to(images.dtype) / 255


def rectangle_masks(images: Tensor, generator: Generator, *, most: int, allowed: Tensor | None = None) -> Tensor:
    """Masks ``(B, 1, H, W)`` of 0 to ``most`` rectangles that lie inside the image.

    Half height and half width are independent uniform integers in [⌊side / 40⌋, ⌊side / 10⌋ − 1]; the centre is uniform over
    the places where the rectangle fits, and over ``allowed`` ``(B, 1, H, W)`` where given.
    """
    batch, _, height, width = images.shape
    shape = (batch, most)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, device=images.device)

    count = torch.randint(0, most + 1, (batch, 1), generator=generator, device=images.device)
    half_h, half_w = _half(uniform(*shape), height), _half(uniform(*shape), width)
    tries = 1 if allowed is None else TRIES
    # Centres (B, most, tries); the largest is side − half, because the rectangle is [centre − half, centre + half).
    centre_y = half_h[..., None] + (uniform(*shape, tries) * (height - 2 * half_h[..., None] + 1)).floor()
    centre_x = half_w[..., None] + (uniform(*shape, tries) * (width - 2 * half_w[..., None] + 1)).floor()
    valid = torch.arange(most, device=images.device)[None] < count
    if allowed is not None:
        flat = (centre_y.clamp(max=height - 1) * width + centre_x.clamp(max=width - 1)).long()
        on = allowed.flatten(1).gather(1, flat.flatten(1)).view_as(flat)
        first = on.to(torch.uint8).argmax(-1, keepdim=True)
        valid = valid & on.any(-1)
        centre_y, centre_x = centre_y.gather(-1, first), centre_x.gather(-1, first)
    rows = _inside(height, centre_y[..., 0], half_h)
    columns = _inside(width, centre_x[..., 0], half_w)
    return (rows[..., :, None] & columns[..., None, :] & valid[..., None, None]).any(1, keepdim=True)


def boxes(generator: Generator, batch: int, size: tuple[int, int], *, count: int, sides: tuple[float, float]) -> Tensor:
    """Masks ``(B, 1, H, W)`` of ``count`` rectangles each, whose sides and places are uniform; all inside the image.

    Args:
        generator: source of all draws, on the device that the masks are wanted on.
        batch: B.
        size: height and width in pixels.
        count: rectangles in each image; they may overlap.
        sides: shortest and longest side, as shares of the image's.
    """
    shape = (batch, count, 4)
    draw = torch.rand(shape, generator=generator, device=generator.device)
    inside = []
    for i, side in enumerate(size):
        length = (side * (sides[0] + draw[..., i] * (sides[1] - sides[0]))).round().clamp(1, side)
        start = (draw[..., 2 + i] * (side - length + 1)).floor()
        position = torch.arange(side, device=generator.device)
        inside.append((position >= start[..., None]) & (position < (start + length)[..., None]))
    rows, columns = inside
    return (rows[..., :, None] & columns[..., None, :]).any(1, keepdim=True)


def _half(u: Tensor, side: int) -> Tensor:
    low = max(1, int(side * MIN_HALF))
    high = max(low, int(side * MAX_HALF) - 1)
    return low + (u * (high - low + 1)).floor()


def _inside(side: int, centre: Tensor, half: Tensor) -> Tensor:
    """``(B, n, side)`` bool: positions in [centre − half, centre + half)."""
    position = torch.arange(side, device=centre.device)
    return (position >= (centre - half)[..., None]) & (position < (centre + half)[..., None])


def foreground(images: Tensor) -> Tensor:
    """``(B, 1, H, W)`` bool: not background, which is nearly black or nearly white (grey < 30 or > 220 of 255).

    As in the authors' code: the background is median-filtered (7 px at 256²) and grown (19 px at 256²), both scaled here.
    """
    grey = 255 * (0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:])
    background = ((grey < 30) | (grey > 220)).to(images.dtype)
    median, grow = _odd(images.shape[-1] * 7 / 256), _odd(images.shape[-1] * 19 / 256)
    background = (F.avg_pool2d(background, median, 1, median // 2) > 0.5).to(images.dtype)  # median of a binary image: majority
    return F.max_pool2d(background, grow, 1, grow // 2) < 0.5


def _odd(size: float) -> int:
    return max(1, int(size) | 1)
