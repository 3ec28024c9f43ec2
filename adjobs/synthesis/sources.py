"""What is put in place of good pixels: shuffled patches of the picture, turned pictures of other parts, other tones.

Textures of their own are in :mod:`adjobs.synthesis.textures`. Everything is batched, and each image has draws of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def shuffled_patches(images: Tensor, generator: Generator, grid: tuple[int, int]) -> Tensor:
    """Each of ``(B, C, H, W)`` images with the patches of a grid in another order (MemSeg, SLSG: 4 rows, 8 columns).

    Sides that the grid does not divide leave a rest at the lower and right border, which stays.
    """
    batch, channels, height, width = images.shape
    rows, columns = grid
    h, w = height // rows, width // columns
    inner = images[:, :, : rows * h, : columns * w]
    patches = inner.reshape(batch, channels, rows, h, columns, w).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = torch.rand(batch, rows * columns, generator=generator, device=images.device).argsort(1)
    patches = patches[torch.arange(batch, device=images.device)[:, None], order]
    shuffled = images.clone()
    inner = patches.view(batch, rows, columns, channels, h, w).permute(0, 3, 1, 4, 2, 5).reshape(inner.shape)
    shuffled[:, :, : rows * h, : columns * w] = inner
    return shuffled


def others(images: Tensor, generator: Generator, allowed: Tensor) -> Tensor:
    """For each of ``(B, C, H, W)`` images another one of the batch, any that is allowed as likely as any.

    Args:
        images: ``(B, C, H, W)``.
        generator: on the images' device.
        allowed: ``(B,)`` bool, which ones may be taken; where that leaves none, the first of the batch is.
    """
    batch = len(images)
    draw = torch.rand(batch, batch, generator=generator, device=images.device)
    itself = torch.eye(batch, dtype=torch.bool, device=images.device)
    return images[draw.masked_fill(itself | ~allowed, -1).argmax(1)]


def turned(images: Tensor, generator: Generator, degrees: float) -> Tensor:
    """Each of ``(B, C, H, W)`` images turned about its centre by up to so many degrees either way, mirrored at the border."""
    angle = torch.deg2rad(degrees * (2 * torch.rand(len(images), generator=generator, device=images.device) - 1))
    cos, sin = torch.cos(angle).view(-1, 1, 1), torch.sin(angle).view(-1, 1, 1)
    height, width = images.shape[-2:]
    y, x = (((2 * torch.arange(n, device=images.device) + 1) / n - 1) for n in (height, width))
    y = y[:, None]
    # Not by affine_grid, which is a matrix product: autocast would round the places to bfloat16.
    grid = torch.stack([cos * x - sin * (height / width) * y, sin * (width / height) * x + cos * y], -1).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def toned(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Other contrast and brightness for each of ``(B, C, H, W)`` images in [0, 1]: (x − mean)·a + mean + b, kept in [0, 1].

    Args:
        images: in [0, 1].
        generator: on the images' device.
        strength: a is in 1 ± strength, b in ± strength / 2.
    """
    a, b = (2 * torch.rand(2, len(images), 1, 1, 1, generator=generator, device=images.device) - 1).unbind(0)
    mean = images.mean((1, 2, 3), keepdim=True)
    return ((images - mean) * (1 + strength * a) + mean + strength / 2 * b).clamp(0, 1)


def jittered(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Other brightness and saturation for each of ``(B, 3, H, W)`` images in [0, 1], both times 1 ± strength, kept in [0, 1]."""
    if not strength:
        return images
    draw = 2 * torch.rand(2, len(images), 1, 1, 1, generator=generator, device=images.device) - 1
    brightness, saturation = (1 + strength * draw).unbind(0)
    bright = (images * brightness).clamp(0, 1)
    grey = 0.299 * bright[:, :1] + 0.587 * bright[:, 1:2] + 0.114 * bright[:, 2:]
    return (grey + saturation * (bright - grey)).clamp(0, 1)
