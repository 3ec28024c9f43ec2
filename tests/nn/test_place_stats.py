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


@pytest.mark.parametrize(("count", "grid"), [(8, 4), (60, 4), (60, 2)], ids=["fewer than channels", "more", "cells of 2 × 2"])
def test_left_out_is_the_distance_from_a_gaussian_that_was_fitted_to_the_others(count, grid):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(count, 12, 4, 4, generator=generator) * torch.logspace(0, -1, 12).view(12, 1, 1) + 3
    stats = PlaceStats(12, (4, 4), grid, 0.01)
    moments = stats.moments()
    moments.add(maps)
    stats.fit(moments)
    left_out = stats.left_out(maps, moments)
    assert float(left_out.mean()) > float(stats(maps).mean())
    cells = stats.cell
    for image in range(3):
        # Brute force at the first position: all other samples of its cell.
        samples = maps[:, :, :cells, :cells].permute(0, 2, 3, 1).reshape(-1, 12)
        index = image * cells**2
        others = torch.cat([samples[:index], samples[index + 1 :]])
        mean, scatter = others.mean(0), (others - others.mean(0)).T @ (others - others.mean(0))
        # The floor is that of all cells, and the divisor the one of all samples.
        floor = 0.01 * moments.by_cell.result()[1].diagonal(dim1=-2, dim2=-1).mean()
        covariance = scatter.double() / (len(samples) - 1) + floor * torch.eye(12)
        difference = (samples[index] - mean).double()
        expected = (difference @ torch.linalg.solve(covariance, difference) / 12).sqrt()
        assert float(left_out[image, 0, 0]) == pytest.approx(float(expected), rel=1e-3)


def test_left_out_predicts_the_distances_of_new_images_when_fewer_than_channels():
    generator = torch.Generator().manual_seed(0)
    fitted, new = torch.randn(2, 40, 64, 4, 4, generator=generator)
    stats = PlaceStats(64, (4, 4), 4, 0.01)
    moments = stats.moments()
    moments.add(fitted)
    stats.fit(moments)
    expected = stats(new)
    left_out = stats.left_out(fitted, moments)
    assert float(stats(fitted).mean()) < 0.3 * float(expected.mean())
    assert float(left_out.mean()) == pytest.approx(float(expected.mean()), rel=0.05)
    assert float(left_out.std()) == pytest.approx(float(expected.std()), rel=0.2)


@pytest.mark.parametrize("maps", [torch.zeros(1, 3, 2, 2), torch.ones(5, 3, 2, 2)], ids=["one image", "equal images"])
def test_left_out_of_images_without_spread_is_finite(maps):
    stats = PlaceStats(3, (2, 2), 2, 0.01)
    moments = stats.moments()
    moments.add(maps)
    stats.fit(moments)
    assert torch.equal(stats.left_out(maps, moments), torch.zeros(len(maps), 2, 2))
