"""Distances of the networks' differences to the nearest one on normal images."""

from __future__ import annotations

import pytest
import torch

from adjobs.methods.cdo import difference_bank as module
from adjobs.methods.cdo.difference_bank import DifferenceBank
from adjobs.methods.cdo.differences import Reference
from tests.helpers.randomness import generator


def make_bank(coreset_ratio: float = 1.0) -> DifferenceBank:
    return DifferenceBank([3], (4, 4), max_channels=3, coreset_ratio=coreset_ratio, seed=0)


def pairs(differences: torch.Tensor, batch: int = 2) -> list[tuple[Reference, list[torch.Tensor]]]:
    """References without length, whose maps are then the differences ``(B, 3, 4, 4)``."""
    lengths = torch.zeros(len(differences), 1, 4, 4)
    whole = [differences, lengths, torch.ones_like(differences)]
    return [(Reference(maps, (length,)), [ones]) for maps, length, ones in zip(*(x.split(batch) for x in whole), strict=True)]


def distances_of(bank: DifferenceBank, differences: torch.Tensor) -> torch.Tensor:
    return bank([differences], [torch.zeros_like(differences)])


def test_forward_is_the_distance_to_the_nearest_difference_of_any_position():
    bank = make_bank()
    normal = torch.randn(5, 3, 4, 4, generator=generator(0)).half().float()
    bank.fit(pairs(normal), 5)
    vectors = normal.permute(0, 2, 3, 1).reshape(-1, 3)
    queries = torch.randn(2, 3, 4, 4, generator=generator(1))
    expected = torch.cdist(queries.permute(0, 2, 3, 1).reshape(-1, 3), vectors).amin(1).view(2, 4, 4) / 3**0.5
    torch.testing.assert_close(distances_of(bank, queries), expected, rtol=1e-4, atol=1e-5)
    moved = normal[:1].roll((1, 2), (2, 3))
    torch.testing.assert_close(distances_of(bank, moved), torch.zeros(1, 4, 4), rtol=0, atol=1e-5)


def test_forward_unfitted_is_the_length():
    queries = torch.randn(2, 3, 4, 4, generator=generator(1))
    torch.testing.assert_close(distances_of(make_bank(), queries), queries.square().mean(1).sqrt())


@pytest.mark.parametrize(("ratio", "images", "expected"), [(1.0, 40, 640), (0.01, 40, 500), (0.01, 5, 80)])
def test_fit_keeps_a_fraction_but_not_too_few(ratio, images, expected):
    bank = make_bank(ratio)
    bank.fit(pairs(torch.randn(images, 3, 4, 4, generator=generator(0)), 16), images)
    assert bank.bank.shape == (expected, 3)


def test_fit_of_many_differences_selects_among_drawn_ones(monkeypatch):
    monkeypatch.setattr(module, "MAX_CANDIDATES", 64)
    monkeypatch.setattr(module, "MIN_BANK", 8)
    bank, again = make_bank(0.05), make_bank(0.05)
    normal = torch.randn(40, 3, 4, 4, generator=generator(0))
    bank.fit(pairs(normal, 10), 40)
    assert bank.bank.shape == (32, 3)
    before = torch.get_rng_state()
    again.fit(pairs(normal, 10), 40)
    assert torch.equal(again.bank, bank.bank)
    assert torch.equal(torch.get_rng_state(), before)


def test_fit_again_writes_in_place():
    bank = make_bank()
    bank.fit(pairs(torch.randn(5, 3, 4, 4, generator=generator(0))), 5)
    address = bank.bank.data_ptr()
    bank.fit(pairs(torch.randn(5, 3, 4, 4, generator=generator(1))), 5)
    assert bank.bank.data_ptr() == address


def test_load_state_dict_resizes_and_refuses_other_channels():
    bank, fresh = make_bank(), make_bank()
    bank.fit(pairs(torch.randn(5, 3, 4, 4, generator=generator(0))), 5)
    fresh.load_state_dict(bank.state_dict())
    assert torch.equal(fresh.bank, bank.bank)
    with pytest.raises(RuntimeError, match="size mismatch"):
        fresh.load_state_dict({**bank.state_dict(), "bank": torch.zeros(7, 4, dtype=torch.half)})
