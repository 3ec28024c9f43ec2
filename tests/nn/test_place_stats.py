"""Gaussians of the places of a map."""

from __future__ import annotations

import pytest
import torch

from adjobs.nn.gaussian_stats import GaussianStats, Moments
from adjobs.nn.place_stats import PlaceStats, cell_size, draw_channels


def test_positions_of_a_cell_share_a_gaussian_and_keep_their_order():
    generator = torch.Generator().manual_seed(0)
    stats = PlaceStats(3, (4, 6), grid=3, shrinkage=0.01)
    assert stats.stats.mean.shape == (6, 3)
    maps = torch.randn(50, 3, 4, 6, generator=generator) * (1 + torch.arange(6))  # a spread for each column
    torch.testing.assert_close(stats(maps), maps.square().mean(1).sqrt())  # Euclidean, because nothing is fitted
    moments = stats.moments()
    for batch in maps.split(20):
        moments.add(batch)
    stats.fit(moments)
    expected = torch.empty(50, 4, 6)
    for row in range(0, 4, 2):
        for column in range(0, 6, 2):
            cell = maps[:, :, row : row + 2, column : column + 2].permute(0, 2, 3, 1)
            of_cell, gaussian = Moments(), GaussianStats(3)
            of_cell.add(cell.reshape(-1, 3))
            gaussian.fit(of_cell, 1e-6)
            expected[:, row : row + 2, column : column + 2] = (gaussian(cell) / 3).sqrt()
    torch.testing.assert_close(stats(maps), expected, rtol=0.1, atol=0.02)  # the shrinkage is one of all cells
    assert float(stats(maps).mean()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("length", "grid", "expected"), [(16, 16, 1), (32, 16, 2), (20, 16, 2), (28, 16, 2), (44, 16, 4), (7, 3, 7)]
)
def test_cell_size_is_the_smallest_that_the_grid_allows(length, grid, expected):
    assert cell_size((length, length), grid) == expected


def test_channels_are_drawn_by_seed_and_sorted():
    drawn = [draw_channels(192, 50, seed).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(set(drawn[0]))
    assert len(drawn[0]) == 50
    assert max(drawn[0]) < 192
    assert draw_channels(5, 9, 0).tolist() == [0, 1, 2, 3, 4]
