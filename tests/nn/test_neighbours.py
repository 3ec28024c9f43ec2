"""Nearest neighbours compared with a plain search."""

from __future__ import annotations

import pytest
import torch

from adjobs.nn.neighbours import nearest_neighbours


def random_vectors(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tile", [None, 1, 7])
def test_nearest_neighbours_equal_a_plain_search(tile):
    queries, bank = random_vectors(20, 8, 0), random_vectors(30, 8, 1)
    neighbours = nearest_neighbours(queries, bank, 3, tile=tile)
    expected = torch.cdist(queries.double(), bank.double()).topk(3, largest=False)
    assert torch.equal(neighbours.indices, expected.indices)
    torch.testing.assert_close(neighbours.distances.double(), expected.values, rtol=1e-5, atol=1e-6)


def test_nearest_neighbours_small_distances_far_from_the_origin_are_exact():
    bank = random_vectors(10, 16, 0) + 1000
    neighbours = nearest_neighbours(bank + 1e-2, bank, 1)
    assert torch.equal(neighbours.indices[:, 0], torch.arange(10))
    torch.testing.assert_close(neighbours.distances[:, 0], (bank + 1e-2 - bank).square().sum(1).sqrt())
    assert torch.equal(nearest_neighbours(bank, bank, 1).distances, torch.zeros(10, 1))


def test_nearest_neighbours_of_the_same_group_are_excluded():
    bank, groups = random_vectors(6, 4, 0), torch.tensor([0, 0, 0, 1, 1, 2])
    neighbours = nearest_neighbours(bank, bank, 4, query_groups=groups, bank_groups=groups)
    is_same_group = groups[neighbours.indices] == groups[:, None]
    assert is_same_group[neighbours.distances.isfinite()].sum() == 0
    assert neighbours.distances.isfinite().sum(1).tolist() == [3, 3, 3, 4, 4, 4]
    assert (neighbours.distances[:, 1:] >= neighbours.distances[:, :-1]).all()


def test_nearest_neighbours_more_than_the_bank_are_refused():
    with pytest.raises(ValueError, match="k: got 4; must be between 1 and 3, the number of vectors in the bank"):
        nearest_neighbours(random_vectors(2, 2, 0), random_vectors(3, 2, 0), 4)


def test_nearest_neighbours_groups_of_queries_alone_are_refused():
    with pytest.raises(ValueError, match="got only one of them"):
        nearest_neighbours(random_vectors(2, 2, 0), random_vectors(3, 2, 0), 1, query_groups=torch.zeros(2))
