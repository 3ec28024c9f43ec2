"""The memory bank: matching, state, and the check that it fits."""

from __future__ import annotations

import pytest
import torch

from adjobs.errors import JobError
from adjobs.methods.semirest import memory
from adjobs.methods.semirest.memory import MemoryBank, check_bank_fits
from tests.helpers.randomness import generator
from tests.helpers.tiny import random_batch, tiny_method

CPU = torch.device("cpu")


def test_search_with_image_indices_excludes_matches_within_an_image():
    method = tiny_method("semirest", coreset_ratio=1.0)
    tokens = method.features(random_batch(8).images)
    image_indices = torch.arange(8)
    unrestricted = method.memory.search(tokens, 1)
    restricted = method.memory.search(tokens, 3, image_indices)
    torch.testing.assert_close(unrestricted.distances, torch.zeros_like(unrestricted.distances))
    assert restricted.distances.min() > 0
    assert (method.memory.image_indices[restricted.indices] != image_indices.view(-1, 1, 1, 1)).all()


def test_search_with_too_few_tokens_of_other_images_repeats_the_nearest():
    bank = MemoryBank(4)
    bank.set_tokens(torch.eye(4)[:3], torch.tensor([0, 0, 1]))
    neighbours = bank.search(torch.zeros(1, 1, 1, 4), 3, torch.tensor([0]))
    assert neighbours.indices.flatten().tolist() == [2, 2, 2]


def test_load_state_dict_resizes_the_bank():
    bank, other = MemoryBank(4), MemoryBank(4)
    bank.set_tokens(torch.rand(7, 4, generator=generator()), torch.arange(7))
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.tokens, bank.tokens)
    assert torch.equal(other.image_indices, bank.image_indices)


def test_digest_identifies_the_content():
    first, same, other = MemoryBank(4), MemoryBank(4), MemoryBank(4)
    for bank, seed in ((first, 0), (same, 0), (other, 1)):
        bank.set_tokens(torch.rand(7, 4, generator=generator(seed)), torch.arange(7))
    assert first.digest() == same.digest()
    assert first.digest() != other.digest()


@pytest.fixture
def one_gib_free(monkeypatch):
    monkeypatch.setattr(memory.devices, "free_bytes", lambda device: 2**30)


def test_check_bank_fits_too_large_ratio_is_refused_with_the_largest_that_fits(one_gib_free):
    check_bank_fits(100_000, 128, 0.1, CPU)
    message = r"coreset_ratio: got 0.9 of 1,000,000 tokens, which needs .* MiB of 1,024 MiB free; choose at most 0"
    with pytest.raises(JobError, match=message) as raised:
        check_bank_fits(1_000_000, 128, 0.9, CPU)
    max_ratio = float(str(raised.value).rsplit(" ", 1)[1])
    check_bank_fits(1_000_000, 128, max_ratio, CPU)
    with pytest.raises(JobError, match="coreset_ratio"):
        check_bank_fits(1_000_000, 128, max_ratio * 1.1, CPU)


def test_check_bank_fits_too_many_tokens_for_any_ratio_is_refused(one_gib_free):
    with pytest.raises(JobError, match=r"choose a smaller data.image_size, or train on fewer normal images"):
        check_bank_fits(10_000_000, 128, 0.1, CPU)
