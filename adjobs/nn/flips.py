"""Mirrored images."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def draw_flips(count: int, generator: Generator) -> Tensor:
    """Which of so many images to mirror, each with a chance of one half: ``(count,)`` bool on the generator's device."""
    return torch.rand(count, generator=generator, device=generator.device) < 0.5


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each of ``(B, C, H, W)`` images left to right with a chance of one half."""
    return flip(images, draw_flips(len(images), generator))


def flip(images: Tensor, which: Tensor) -> Tensor:
    """Mirror those of ``(B, C, H, W)`` images left to right that ``which``, ``(B,)``, says."""
    return torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)
