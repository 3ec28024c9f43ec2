"""The coreset covers what it is chosen from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adjobs.nn.coreset import coreset


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reach(vectors: torch.Tensor, chosen: torch.Tensor) -> float:
    """How far the farthest vector is from the nearest that was chosen."""
    return float(torch.cdist(vectors, vectors[chosen]).amin(1).max())


def test_every_cluster_is_chosen_from_before_any_gets_a_second():
    centres = 10 * torch.randn(12, 8, generator=gen())
    vectors = (centres[:, None] + 0.1 * torch.randn(12, 50, 8, generator=gen(1))).flatten(0, 1)
    chosen = coreset(vectors, 12, gen())
    assert sorted((chosen // 50).tolist()) == list(range(12))


def test_it_covers_better_than_chance_and_with_few_dimensions_nearly_as_well():
    places = torch.rand(2000, 3, generator=gen()) ** 3  # crowded in a corner
    vectors = places @ torch.randn(3, 256, generator=gen(1))
    exact = reach(vectors, coreset(vectors, 100, gen(), projected=None))
    quick = reach(vectors, coreset(vectors, 100, gen()))
    chance = reach(vectors, torch.randperm(2000, generator=gen())[:100])
    assert exact < 0.6 * chance
    assert quick < 1.3 * exact


def test_no_vector_is_chosen_twice_and_the_seed_decides():
    vectors = torch.randn(40, 4, generator=gen()).repeat(2, 1)  # every vector is there twice
    chosen = coreset(vectors, 80, gen())
    assert sorted(chosen.tolist()) == list(range(80))
    few = [coreset(torch.randn(300, 200, generator=gen()), 20, gen(seed)).tolist() for seed in (0, 0, 1)]
    assert few[0] == few[1]
    assert few[0] != few[2]


def test_a_count_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="count: got 0 of 5 vectors; choose 1 to 5"):
        coreset(torch.zeros(5, 2), 0, gen())


def test_it_holds_the_projected_vectors_once():
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        pytest.skip("the peak of a process is read from Linux's /proc")

    def mib(name: str) -> float:
        return int(next(line for line in status.read_text().splitlines() if line.startswith(name)).split()[1]) / 1024

    vectors = torch.zeros(300_000, 160, dtype=torch.half)
    vectors[:, 0] = torch.arange(300_000) % 1000
    coreset(vectors[:1000], 2, gen())  # what is loaded once
    clear.write_text("5")  # the peak begins anew (proc_pid_clear_refs(5))
    before = mib("VmRSS")
    coreset(vectors, 3, gen())
    assert mib("VmHWM") - before < 1.4 * 300_000 * 128 * 4 / 2**20
