"""Nearest neighbours against a plain search."""

from __future__ import annotations

import pytest
import torch

from adjobs.nn.neighbours import nearest


def vectors(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tile", [None, 1, 7])
def test_they_are_those_of_a_plain_search(tile):
    queries, bank = vectors(20, 8, 0), vectors(30, 8, 1)
    found = nearest(queries, bank, 3, tile=tile)
    plain = torch.cdist(queries.double(), bank.double()).topk(3, largest=False)
    assert torch.equal(found.indices, plain.indices)
    torch.testing.assert_close(found.distances.double(), plain.values, rtol=1e-5, atol=1e-6)


def test_distances_near_zero_are_exact_also_far_from_the_origin():
    bank = vectors(10, 16, 0) + 1000
    found = nearest(bank + 1e-2, bank, 1)
    assert torch.equal(found.indices[:, 0], torch.arange(10))
    torch.testing.assert_close(found.distances[:, 0], (bank + 1e-2 - bank).square().sum(1).sqrt())
    assert torch.equal(nearest(bank, bank, 1).distances, torch.zeros(10, 1))


def test_a_query_does_not_match_its_own():
    bank, owners = vectors(6, 4, 0), torch.tensor([0, 0, 0, 1, 1, 2])
    found = nearest(bank, bank, 4, own=owners, owners=owners)
    assert (owners[found.indices] == owners[:, None])[found.distances.isfinite()].sum() == 0
    assert found.distances.isfinite().sum(1).tolist() == [3, 3, 3, 4, 4, 4]
    assert (found.distances[:, 1:] >= found.distances[:, :-1]).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="k: got 4, the bank holds 3 vectors"):
        nearest(vectors(2, 2, 0), vectors(3, 2, 0), 4)
    with pytest.raises(ValueError, match="got one without the other"):
        nearest(vectors(2, 2, 0), vectors(3, 2, 0), 1, own=torch.zeros(2))
