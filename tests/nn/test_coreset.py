"""The coreset covers the vectors that it is selected from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adjobs.nn.coreset import coreset


def make_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covering_radius(vectors: torch.Tensor, selected: torch.Tensor) -> float:
    """Largest distance of a vector from the nearest selected one."""
    return float(torch.cdist(vectors, vectors[selected]).amin(1).max())


def test_coreset_selects_from_every_cluster_first():
    centres = 10 * torch.randn(12, 8, generator=make_generator())
    vectors = (centres[:, None] + 0.1 * torch.randn(12, 50, 8, generator=make_generator(1))).flatten(0, 1)
    selected = coreset(vectors, 12, make_generator())
    assert sorted((selected // 50).tolist()) == list(range(12))


def test_coreset_covers_better_than_random_and_nearly_as_well_after_projection():
    points = torch.rand(2000, 3, generator=make_generator()) ** 3  # dense in a corner
    vectors = points @ torch.randn(3, 256, generator=make_generator(1))
    exact = covering_radius(vectors, coreset(vectors, 100, make_generator(), projected=None))
    projected = covering_radius(vectors, coreset(vectors, 100, make_generator()))
    random = covering_radius(vectors, torch.randperm(2000, generator=make_generator())[:100])
    assert exact < 0.6 * random
    assert projected < 1.3 * exact


def test_coreset_selects_no_vector_twice_and_depends_on_the_seed():
    vectors = torch.randn(40, 4, generator=make_generator()).repeat(2, 1)  # every vector twice
    selected = coreset(vectors, 80, make_generator())
    assert sorted(selected.tolist()) == list(range(80))
    by_seed = [
        coreset(torch.randn(300, 200, generator=make_generator()), 20, make_generator(seed)).tolist() for seed in (0, 0, 1)
    ]
    assert by_seed[0] == by_seed[1]
    assert by_seed[0] != by_seed[2]


def test_coreset_count_out_of_range_is_refused():
    with pytest.raises(ValueError, match="count: got 0; must be between 1 and 5, the number of vectors"):
        coreset(torch.zeros(5, 2), 0, make_generator())


def test_coreset_memory_holds_projected_vectors_once():
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        pytest.skip("peak memory is read from Linux's /proc")

    def mib(name: str) -> float:
        return int(next(line for line in status.read_text().splitlines() if line.startswith(name)).split()[1]) / 1024

    vectors = torch.zeros(300_000, 160, dtype=torch.half)
    vectors[:, 0] = torch.arange(300_000) % 1000
    coreset(vectors[:1000], 2, make_generator())  # imports and buffers of a first call
    clear.write_text("5")  # resets the peak, see proc_pid_clear_refs(5)
    before = mib("VmRSS")
    coreset(vectors, 3, make_generator())
    assert mib("VmHWM") - before < 1.4 * 300_000 * 128 * 4 / 2**20
