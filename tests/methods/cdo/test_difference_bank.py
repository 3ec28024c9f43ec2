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
    return torch.cdist(vectors, others).amin(1).view(-1, 4, 4) / 3**0.5


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


def test_fit_deviations_are_those_of_normal_differences():
    bank = make_bank(0.1)
    normal = torch.randn(40, 3, 4, 4, generator=generator(0))
    bank.fit(pairs(normal, 10), 40)
    for scale, maps in enumerate((normal, mean_of_neighbours(normal))):
        kept = bank.banks[scale].float()
        vectors = maps.permute(0, 2, 3, 1).reshape(-1, 3)
        expected = (torch.cdist(vectors, kept).amin(1) / 3**0.5).std()
        torch.testing.assert_close(bank.deviations[scale], expected, rtol=0.02, atol=0)


def test_forward_unfitted_is_the_length():
    queries = torch.ones(2, 3, 4, 4)
    torch.testing.assert_close(distances_of(make_bank(), queries), torch.full((2, 4, 4), 2.0))


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


def test_fit_identical_images_are_finite():
    bank = make_bank()
    bank.fit(pairs(torch.ones(4, 3, 4, 4)), 4)
    assert distances_of(bank, torch.ones(1, 3, 4, 4)).isfinite().all()


def test_fit_again_writes_in_place():
    bank = make_bank()
    bank.fit(pairs(torch.randn(5, 3, 4, 4, generator=generator(0))), 5)
    address = bank.banks.data_ptr()
    bank.fit(pairs(torch.randn(5, 3, 4, 4, generator=generator(1))), 5)
    assert bank.banks.data_ptr() == address


def test_load_state_dict_resizes_and_refuses_other_channels():
    bank, fresh = make_bank(), make_bank()
    bank.fit(pairs(torch.randn(5, 3, 4, 4, generator=generator(0))), 5)
    fresh.load_state_dict(bank.state_dict())
    assert torch.equal(fresh.banks, bank.banks)
    for shape in ((2, 7, 4), (1, 7, 3), (7, 3)):
        with pytest.raises(RuntimeError, match="size mismatch"):
            fresh.load_state_dict({**bank.state_dict(), "banks": torch.zeros(shape, dtype=torch.half)})
