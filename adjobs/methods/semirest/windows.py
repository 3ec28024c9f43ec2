"""Windows of tokens: positions, extraction, and averaging of overlapping predictions (bagging)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TokenWindows(NamedTuple):
    """The N windows of μ × μ tokens that a step trains on.

    Attributes:
        tokens: ``(N, μ, μ, d)``.
        neighbours: ``(N, μ, μ, K)`` int64, indices into the memory bank.
        labels: ``(N, μ, μ)`` int64: NORMAL, ANOMALOUS, UNKNOWN or UNDECIDED.
    """

    tokens: Tensor
    neighbours: Tensor
    labels: Tensor


def window_positions(images: int, grid: int, side: int, stride: int, device: torch.device) -> Tensor:
    """All windows of a number of images, ordered by image: ``(N, 3)`` int64 of image, first row, first column.

    The last window along a side ends at the border, whatever the stride.
    """
    # Not from a list, which would have to be copied from main memory.
    last = grid - side
    starts = (torch.arange(-(-last // stride) + 1, device=device) * stride).clamp_max(last)
    return torch.cartesian_prod(torch.arange(images, device=device), starts, starts)


def extract_windows(tokens: Tensor, positions: Tensor, side: int) -> Tensor:
    """Extract windows at ``(N, 3)`` positions from ``(B, h, w, …)`` tokens: ``(N, side, side, …)``."""
    offsets = torch.arange(side, device=tokens.device)
    image, row, column = positions.unbind(1)
    return tokens[image[:, None, None], (row[:, None] + offsets)[:, :, None], (column[:, None] + offsets)[:, None, :]]


def average_windows(predictions: Tensor, positions: Tensor, images: int, grid: int) -> Tensor:
    """Mean prediction of each token over the windows that contain it.

    Args:
        predictions: ``(N, side, side)``.
        positions: ``(N, 3)``, which must cover every token of every image.
        images: B.
        grid: tokens per image side.

    Returns:
        ``(B, grid, grid)``.
    """
    side = predictions.shape[1]
    offsets = torch.arange(side, device=predictions.device)
    image, row, column = positions.unbind(1)
    flat = (image[:, None, None] * grid + (row[:, None] + offsets)[:, :, None]) * grid + (column[:, None] + offsets)[:, None, :]
    sums, counts = (torch.zeros(images * grid * grid, device=predictions.device) for _ in range(2))
    sums.scatter_add_(0, flat.flatten(), predictions.float().flatten())
    counts.scatter_add_(0, flat.flatten(), torch.ones_like(predictions, dtype=torch.float).flatten())
    return (sums / counts).view(images, grid, grid)
