"""Position codes, from which a network knows where in the image a feature lies."""

from __future__ import annotations

import torch
from torch import Tensor

PERIOD = 10_000.0  # of the slowest wave, in positions (Vaswani et al., NeurIPS 2017)


def sincos_2d(height: int, width: int, channels: int) -> Tensor:
    """Two-dimensional sine-cosine position code: half of the channels encode the row, the other half the column.

    Args:
        height: number of rows.
        width: number of columns.
        channels: C, a multiple of 4.

    Returns:
        ``(C, height, width)`` float32 in [−1, 1].

    Raises:
        ValueError: ``channels`` is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"channels: got {channels}; must be a multiple of 4")
    quarter = channels // 4
    frequencies = PERIOD ** (-torch.arange(quarter, dtype=torch.float32) / quarter)
    rows, columns = (torch.outer(frequencies, torch.arange(n, dtype=torch.float32)) for n in (height, width))
    row_codes = [wave.unsqueeze(2).expand(-1, -1, width) for wave in (rows.sin(), rows.cos())]
    column_codes = [wave.unsqueeze(1).expand(-1, height, -1) for wave in (columns.sin(), columns.cos())]
    return torch.cat([*row_codes, *column_codes])
