"""Random image transforms: shuffled patches, rotation, tone and colour jitter; batched, with independent draws per image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def shuffle_patches(images: Tensor, generator: Generator, grid: tuple[int, int]) -> Tensor:
    """Shuffle the patches of a grid within each of ``(B, C, H, W)`` images (MemSeg, SLSG: 4 rows, 8 columns).

    Where the grid does not divide the image, the pixels left over at the lower and right border are unchanged.
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


def draw_other_images(images: Tensor, generator: Generator, allowed: Tensor) -> Tensor:
    """For each of ``(B, C, H, W)`` images another image of the batch, uniform over the allowed ones.

    Args:
        images: ``(B, C, H, W)``.
        generator: on the images' device.
        allowed: ``(B,)`` bool, which images may be drawn; where that leaves none, the first of the batch is taken.
    """
    batch = len(images)
    draw = torch.rand(batch, batch, generator=generator, device=images.device)
    is_itself = torch.eye(batch, dtype=torch.bool, device=images.device)
    return images[draw.masked_fill(is_itself | ~allowed, -1).argmax(1)]


def rotate_randomly(images: Tensor, generator: Generator, max_degrees: float) -> Tensor:
    """Rotate each of ``(B, C, H, W)`` images about its centre by up to ``max_degrees`` either way, mirrored at the border."""
    angle = torch.deg2rad(max_degrees * (2 * torch.rand(len(images), generator=generator, device=images.device) - 1))
    cos, sin = torch.cos(angle).view(-1, 1, 1), torch.sin(angle).view(-1, 1, 1)
    height, width = images.shape[-2:]
    y, x = (((2 * torch.arange(n, device=images.device) + 1) / n - 1) for n in (height, width))
    y = y[:, None]
    # Not affine_grid, which is a matrix product: autocast would round the coordinates to bfloat16.
    grid = torch.stack([cos * x - sin * (height / width) * y, sin * (width / height) * x + cos * y], -1).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def adjust_tone(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Change contrast and brightness of each of ``(B, C, H, W)`` images: (x − mean)·a + mean + b, clipped to [0, 1].

    Args:
        images: in [0, 1].
        generator: on the images' device.
        strength: a is uniform in 1 ± strength, b in ± strength / 2.
    """
    a, b = (2 * torch.rand(2, len(images), 1, 1, 1, generator=generator, device=images.device) - 1).unbind(0)
    mean = images.mean((1, 2, 3), keepdim=True)
    return ((images - mean) * (1 + strength * a) + mean + strength / 2 * b).clamp(0, 1)


def jitter_colour(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Scale brightness and saturation of each of ``(B, 3, H, W)`` images by factors in 1 ± strength, clipped to [0, 1]."""
    if not strength:
        return images
    draw = 2 * torch.rand(2, len(images), 1, 1, 1, generator=generator, device=images.device) - 1
    brightness, saturation = (1 + strength * draw).unbind(0)
    bright = (images * brightness).clamp(0, 1)
    grey = 0.299 * bright[:, :1] + 0.587 * bright[:, 1:2] + 0.114 * bright[:, 2:]
    return (grey + saturation * (bright - grey)).clamp(0, 1)
