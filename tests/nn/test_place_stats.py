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


def fitted(maps, grid):
    stats = PlaceStats(maps.shape[1], maps.shape[-2:], grid, 0.01)
    moments = stats.moments()
    for batch in maps.split(7):
        moments.add(batch)
    stats.fit(moments)
    return stats, moments


@pytest.mark.parametrize(
    ("count", "grid"), [(8, 4), (60, 4), (60, 2), (4, 1)], ids=["fewer than channels", "more", "cells of 2 × 2", "one cell"]
)
def test_left_out_is_the_distance_from_a_gaussian_of_the_other_images(count, grid):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(count, 12, 4, 4, generator=generator) * torch.logspace(0, -1, 12).view(12, 1, 1) + 3
    stats, moments = fitted(maps, grid)
    left_out, cell = stats.left_out(maps, moments), stats.cell
    floor = 0.01 * moments.by_cell.result()[1].diagonal(dim1=-2, dim2=-1).mean()  # that of all images
    for image in range(3):
        own, others = (
            chosen[:, :, :cell, :cell].permute(0, 2, 3, 1).reshape(-1, 12).double()
            for chosen in (maps[image : image + 1], maps[torch.arange(count) != image])
        )
        centred = others - others.mean(0)
        # The divisor is the one of all images, too.
        covariance = centred.T @ centred / (count * cell**2 - 1) + floor * torch.eye(12)
        difference = own - others.mean(0)
        expected = (difference * torch.linalg.solve(covariance, difference.T).T).sum(1).div(12).sqrt()
        torch.testing.assert_close(left_out[image, :cell, :cell].flatten().double(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("grid", [4, 2])
def test_left_out_predicts_the_distances_of_new_images_when_fewer_than_channels(grid):
    """Also where positions that share a Gaussian are alike within an image."""
    generator = torch.Generator().manual_seed(0)
    cells, side = torch.randn(2, 40, 64, grid, grid, generator=generator), 4 // grid
    maps = cells.repeat_interleave(side, 3).repeat_interleave(side, 4)
    images, new = maps + 0.1 * torch.randn(maps.shape, generator=generator)
    stats, moments = fitted(images, grid)
    expected, left_out = stats(new), stats.left_out(images, moments)
    assert float(stats(images).mean()) < 0.6 * float(expected.mean())
    assert float(left_out.mean()) == pytest.approx(float(expected.mean()), rel=0.05)
    assert float(left_out.std()) == pytest.approx(float(expected.std()), rel=0.2)


def test_left_out_of_a_single_image_keeps_its_distances():
    maps = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    stats, moments = fitted(maps, 2)
    assert torch.equal(stats.left_out(maps, moments), stats(maps))


def test_left_out_of_equal_images_is_nothing():
    maps = torch.ones(5, 3, 2, 2)
    stats, moments = fitted(maps, 2)
    assert torch.equal(stats.left_out(maps, moments), torch.zeros(5, 2, 2))
