"""Flipped images."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

LEFT_RIGHT, UPSIDE_DOWN = 3, 2  # dimensions of a batch of images
# Test-time augmentation: the dimensions flipped in each view. Methods average the first one, two or four views.
VIEWS: tuple[tuple[int, ...], ...] = ((), (LEFT_RIGHT,), (UPSIDE_DOWN,), (UPSIDE_DOWN, LEFT_RIGHT))


def draw_flips(count: int, generator: Generator) -> Tensor:
    """Which images to flip, each with probability 1/2: ``(count,)`` bool on the generator's device."""
    return torch.rand(count, generator=generator, device=generator.device) < 0.5


def random_flip(images: Tensor, generator: Generator, dim: int = LEFT_RIGHT) -> Tensor:
    """Flip each of ``(B, C, H, W)`` images with probability 1/2."""
    return flip(images, draw_flips(len(images), generator), dim)


def flip(images: Tensor, flipped: Tensor, dim: int = LEFT_RIGHT) -> Tensor:
    """Flip those of ``(B, C, H, W)`` images where ``flipped``, ``(B,)`` bool, is True."""
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(dim), images)
