"""Distances of the networks' differences to the nearest ones on normal images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

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


def nearest(queries: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """Distances ``(B, 4, 4)`` to the nearest vector of any position."""
    vectors, others = (maps.permute(0, 2, 3, 1).reshape(-1, 3) for maps in (queries, normal))
    return torch.cdist(vectors, others).amin(1).view(-1, 4, 4)


def mean_of_neighbours(maps: torch.Tensor) -> torch.Tensor:
    sums, counts = (F.conv2d(values, torch.ones(3, 1, 3, 3), padding=1, groups=3) for values in (maps, torch.ones_like(maps)))
    return sums / counts


def test_forward_adds_the_distances_to_the_nearest_of_any_position_at_two_scales():
    bank = make_bank()
    normal = torch.randn(5, 3, 4, 4, generator=generator(0)).half().float()
    bank.fit(pairs(normal), 5)
    queries = torch.randn(2, 3, 4, 4, generator=generator(1))
    alone = nearest(queries, normal)
    averaged = nearest(mean_of_neighbours(queries), mean_of_neighbours(normal))
    expected = alone / bank.deviations[0] + averaged / bank.deviations[1]
    torch.testing.assert_close(distances_of(bank, queries), expected, rtol=1e-2, atol=1e-2)  # the bank has half precision


@pytest.mark.parametrize("images", [5, 40])
def test_fit_deviations_are_those_of_images_that_are_not_in_the_bank(images):
    bank = make_bank(0.5)
    normal = torch.randn(2 * images, 3, 4, 4, generator=generator(0))
    bank.fit(pairs(normal[:images], 10), images)
    for scale, maps in enumerate((normal, mean_of_neighbours(normal))):
        vectors = maps[images:].permute(0, 2, 3, 1).reshape(-1, 3)
        held_out = (torch.cdist(vectors, bank.banks[scale].float()).amin(1)).std()
        torch.testing.assert_close(bank.deviations[scale], held_out, rtol=0.6, atol=0)


def test_forward_unfitted_is_the_length():
    queries = torch.ones(2, 3, 4, 4)
    torch.testing.assert_close(distances_of(make_bank(), queries), torch.full((2, 4, 4), 2 * 3**0.5))


@pytest.mark.parametrize(("ratio", "images", "expected"), [(1.0, 40, 640), (0.01, 40, 500), (0.01, 5, 80)])
def test_fit_keeps_a_fraction_but_not_too_few(ratio, images, expected):
    bank = make_bank(ratio)
    bank.fit(pairs(torch.randn(images, 3, 4, 4, generator=generator(0)), 16), images)
    assert bank.banks.shape == (2, expected, 3)


def test_fit_of_many_differences_selects_among_drawn_ones(monkeypatch):
    monkeypatch.setattr(module, "MAX_CANDIDATES", 64)
    monkeypatch.setattr(module, "MIN_BANK", 8)
    bank, again = make_bank(0.05), make_bank(0.05)
    normal = torch.randn(40, 3, 4, 4, generator=generator(0))
    bank.fit(pairs(normal, 10), 40)
    assert bank.banks.shape == (2, 32, 3)
    before = torch.get_rng_state()
    again.fit(pairs(normal, 10), 40)
    assert torch.equal(again.banks, bank.banks)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("images", [1, 4])
def test_fit_identical_images_and_a_single_one_count_in_plain_units(images):
    bank = make_bank()
    bank.fit(pairs(torch.ones(images, 3, 4, 4)), images)
    assert bank.deviations.tolist() == [1, 1]
    torch.testing.assert_close(distances_of(bank, torch.ones(1, 3, 4, 4)), torch.zeros(1, 4, 4))


def test_fit_bank_has_a_largest_size(monkeypatch):
    monkeypatch.setattr(module, "MAX_BANK", 90)
    bank = make_bank(1.0)
    bank.fit(pairs(torch.randn(40, 3, 4, 4, generator=generator(0)), 16), 40)
    assert bank.banks.shape == (2, 90, 3)


def test_load_state_dict_resizes_and_refuses_other_channels():
    bank, fresh = make_bank(), make_bank()
    bank.fit(pairs(torch.randn(5, 3, 4, 4, generator=generator(0))), 5)
    fresh.load_state_dict(bank.state_dict())
    assert torch.equal(fresh.banks, bank.banks)
    for shape in ((2, 7, 4), (1, 7, 3), (7, 3)):
        with pytest.raises(RuntimeError, match="size mismatch"):
            fresh.load_state_dict({**bank.state_dict(), "banks": torch.zeros(shape, dtype=torch.half)})
