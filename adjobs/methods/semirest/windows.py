"""Windows of tokens: where they lie, how they are cut out, and how their answers become one map (bagging)."""

from __future__ import annotations

import torch
from torch import Tensor


def starts(grid: int, side: int, step: int) -> list[int]:
    """First tokens of windows of ``side`` along a grid, ``step`` apart; the last one ends at the border."""
    last = grid - side
    return [*range(0, last, step), last]


def places(images: int, grid: int, side: int, step: int, device: torch.device) -> Tensor:
    """All windows of so many images, image by image: ``(N, 3)`` int64 of image, first row and first column."""
    along = torch.tensor(starts(grid, side, step), device=device)
    return torch.cartesian_prod(torch.arange(images, device=device), along, along)


def cut(tokens: Tensor, at: Tensor, side: int) -> Tensor:
    """Cut windows out of ``(B, h, w, …)`` tokens at ``(N, 3)`` places: ``(N, side, side, …)``."""
    inside = torch.arange(side, device=tokens.device)
    image, row, column = at.unbind(1)
    return tokens[image[:, None, None], (row[:, None] + inside)[:, :, None], (column[:, None] + inside)[:, None, :]]


def bagged(answers: Tensor, at: Tensor, images: int, grid: int) -> Tensor:
    """Mean of the answers that each token has got.

    Args:
        answers: ``(N, side, side)`` of windows at ``at``.
        at: ``(N, 3)`` places, which cover every token of every image.
        images: B.
        grid: tokens along an image's side.

    Returns:
        ``(B, grid, grid)``.
    """
    side = answers.shape[1]
    inside = torch.arange(side, device=answers.device)
    image, row, column = at.unbind(1)
    flat = (image[:, None, None] * grid + (row[:, None] + inside)[:, :, None]) * grid + (column[:, None] + inside)[:, None, :]
    sums, counts = (torch.zeros(images * grid * grid, device=answers.device) for _ in range(2))
    sums.index_add_(0, flat.flatten(), answers.float().flatten())
    counts.index_add_(0, flat.flatten(), torch.ones_like(answers, dtype=torch.float).flatten())
    return (sums / counts).view(images, grid, grid)
