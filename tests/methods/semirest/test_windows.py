"""Windows of tokens and the average of their predictions."""

from __future__ import annotations

import pytest
import torch

from adjobs.methods.semirest.windows import average_windows, extract_windows, window_positions
from tests.helpers.randomness import generator

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("grid", "side", "stride", "expected"),
    [(64, 32, 8, [0, 8, 16, 24, 32]), (10, 4, 4, [0, 4, 6]), (8, 8, 3, [0]), (9, 8, 8, [0, 1])],
)
def test_window_starts_reach_the_border(grid, side, stride, expected):
    positions = window_positions(1, grid, side, stride, torch.device("cpu"))
    assert positions[:, 1].unique().tolist() == positions[:, 2].unique().tolist() == expected


def test_average_windows_inverts_extract_windows():
    values = torch.rand(3, 10, 10, generator=generator())
    positions = window_positions(3, 10, 4, 3, CPU)
    assert len(positions) == 3 * 3 * 3
    torch.testing.assert_close(average_windows(extract_windows(values, positions, 4), positions, 3, 10), values)


def test_average_windows_averages_where_windows_overlap():
    positions = window_positions(3, 10, 4, 3, CPU)
    window_numbers = torch.arange(len(positions)).float().view(-1, 1, 1).expand(-1, 4, 4)
    averaged = average_windows(window_numbers, positions, 3, 10)
    assert averaged[0, 0, 0] == 0
    assert averaged[0, 0, 3] == 0.5  # windows 0 and 1
