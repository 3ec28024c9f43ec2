"""The coreset covers the vectors that it is selected from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adjobs.nn import coreset as module
from adjobs.nn.coreset import coreset


def make_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covering_radius(vectors: torch.Tensor, selected: torch.Tensor) -> float:
    """Largest distance of a vector from the nearest selected one."""
    return float(torch.cdist(vectors, vectors[selected]).amin(1).max())


def one_by_one(vectors: torch.Tensor, count: int, generator: torch.Generator) -> list[int]:
    """The definition: every selection is a pass over all vectors, in float64."""
    starts = vectors[torch.randperm(len(vectors), generator=generator)[: module.STARTS]]
    distances = torch.cdist(vectors, starts).mean(1).square().double()
    selected: list[int] = []
    for _ in range(count):
        selected.append(distances.tolist().index(float(distances.max())))
        distances = torch.minimum(distances, (vectors - vectors[selected[-1]]).double().square().sum(1))
        distances[selected] = -1
    return selected


@pytest.fixture(params=[1, 2, 7, 60, 1024])
def candidates(request, monkeypatch):
    """Also so few candidates and distances at a time that rounds and chunks end everywhere."""
    monkeypatch.setattr(module, "CANDIDATES", request.param)
    monkeypatch.setattr(module, "CPU_DISTANCES", 16 * request.param)


@pytest.mark.usefixtures("candidates")
@pytest.mark.parametrize(("values", "dims"), [(2, 1), (3, 2), (4, 3), (100, 2), (9, 6)])
def test_coreset_is_that_of_passes_one_by_one_with_ties_and_duplicates(values, dims):
    half = torch.randint(0, values, (70, dims), generator=make_generator(values)).float()
    vectors = torch.cat([half, -half])  # their mean is 0, so that all products are exact
    for count in (1, 2, 50, 139, 140):
        selected = coreset(vectors, count, make_generator(), projected=None)
        assert selected.tolist() == one_by_one(vectors, count, make_generator())


@pytest.mark.usefixtures("candidates")
def test_coreset_of_equal_vectors_is_the_first_ones():
    for total in (1, 2, 9):
        assert coreset(torch.zeros(total, 3), total, make_generator(), projected=None).tolist() == list(range(total))


@pytest.mark.usefixtures("candidates")
@pytest.mark.parametrize("tail", [0.0, 1.0])
def test_coreset_every_selected_vector_is_the_farthest_up_to_rounding(tail):
    scale = torch.exp(tail * torch.randn(600, 1, generator=make_generator(1)))
    vectors = torch.randn(600, 12, generator=make_generator()) * scale + 30
    selected = coreset(vectors, 300, make_generator(), projected=None).tolist()
    precise = vectors.double()
    between = (precise[:, None] - precise[selected]).square().sum(2)  # (600, 300)
    starts = precise[torch.randperm(600, generator=make_generator())[: module.STARTS]]
    distances = torch.cdist(precise, starts).mean(1).square()
    for to_selected, index in zip(between.T, selected, strict=True):
        assert float(distances[index]) > (1 - 1e-4) * float(distances.max())
        distances = torch.minimum(distances, to_selected)


def test_coreset_of_values_without_distances_is_refused():
    vectors = torch.zeros(5, 2)
    vectors[3, 1] = torch.inf
    with pytest.raises(ValueError, match="vectors: got values that are not finite"):
        coreset(vectors, 2, make_generator())


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
