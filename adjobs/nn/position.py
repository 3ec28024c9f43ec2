"""Codes that tell a network where something lies."""

from __future__ import annotations

import torch
from torch import Tensor

PERIOD = 10_000.0  # of the slowest wave, in positions (Vaswani et al., NeurIPS 2017)


def sincos_2d(height: int, width: int, channels: int) -> Tensor:
    """Two-dimensional sine-cosine code: half the channels tell the row, the others the column.

    Args:
        height: rows.
        width: columns.
        channels: C, a multiple of 4.

    Returns:
        ``(C, height, width)`` float32 in [−1, 1].
    """
    if channels % 4:
        raise ValueError(f"channels: got {channels}, need a multiple of 4")
    quarter = channels // 4
    rates = PERIOD ** (-torch.arange(quarter, dtype=torch.float32) / quarter)
    rows, columns = (torch.outer(rates, torch.arange(n, dtype=torch.float32)) for n in (height, width))
    along = [wave.unsqueeze(2).expand(-1, -1, width) for wave in (rows.sin(), rows.cos())]
    across = [wave.unsqueeze(1).expand(-1, height, -1) for wave in (columns.sin(), columns.cos())]
    return torch.cat([*along, *across])
