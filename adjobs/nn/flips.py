"""Mirrored images."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each of ``(B, C, H, W)`` images left to right with a chance of one half."""
    flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
