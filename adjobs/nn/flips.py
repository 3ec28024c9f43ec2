"""Mirrored images."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

LEFT_RIGHT, UPSIDE_DOWN = 3, 2  # axes of a batch of images
# Axes along which a picture is mirrored, for the views whose answers are averaged: the first of them, or two, or all four.
VIEWS: tuple[tuple[int, ...], ...] = ((), (LEFT_RIGHT,), (UPSIDE_DOWN,), (UPSIDE_DOWN, LEFT_RIGHT))


def draw_flips(count: int, generator: Generator) -> Tensor:
    """Which of so many images to mirror, each with a chance of one half: ``(count,)`` bool on the generator's device."""
    return torch.rand(count, generator=generator, device=generator.device) < 0.5


def random_flip(images: Tensor, generator: Generator, axis: int = LEFT_RIGHT) -> Tensor:
    """Mirror each of ``(B, C, H, W)`` images with a chance of one half."""
    return flip(images, draw_flips(len(images), generator), axis)


def flip(images: Tensor, which: Tensor, axis: int = LEFT_RIGHT) -> Tensor:
    """Mirror those of ``(B, C, H, W)`` images that ``which``, ``(B,)``, says."""
    return torch.where(which.view(-1, 1, 1, 1), images.flip(axis), images)
