"""Greedy k-center coreset: few vectors that are close to all others (Sener and Savarese, ICLR 2018; used by PatchCore)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

STARTS = 10  # random vectors whose mean distance starts the search (PatchCore's "approximate" sampling)
CHUNK = 1 << 12  # vectors processed at a time where that saves a copy of all of them
CANDIDATES = 1 << 10  # vectors of a round; more cost more in products among them than they save in rounds
# Distances computed at a time between all vectors and selected ones: what fits into a CPU's cache, and what occupies a GPU.
CPU_DISTANCES, GPU_DISTANCES = 1 << 18, 1 << 24


def coreset(vectors: Tensor, count: int, generator: Generator, *, projected: int | None = 128) -> Tensor:
    """Select vectors one by one, each the farthest from those selected before, the first of equals.

    Distances are computed after a random projection, which preserves them within a few percent (Johnson and Lindenstrauss). As in
    PatchCore, the search starts from the mean distances to a few random vectors.

    The search is exact but lazy. Distances to the selected vectors can only shrink, so those before a round are upper bounds:
    a round selects among the ``CANDIDATES`` vectors with the largest ones, as long as the farthest of them is farther than any
    other vector can be. One matrix product then updates the distances of all vectors.

    Args:
        vectors: ``(N, d)`` of any type and on any device, such as a memory map: read in chunks.
        count: number of vectors to select, 1 to N.
        generator: for the projection and the start; everything but the choice among candidates is computed on its device.
        projected: dimensions of the projection; None for no projection.

    Returns:
        ``(count,)`` int64 indices in order of selection, on the generator's device.

    Raises:
        ValueError: count is not in 1 to N, or distances are not finite.
    """
    total = len(vectors)
    if not 1 <= count <= total:
        raise ValueError(f"count: got {count}; must be between 1 and {total}, the number of vectors")
    points = _project(vectors, projected, generator)
    distances, norms = _start(points, generator)
    if not distances.isfinite().all():
        raise ValueError("vectors: got values that are not finite, or too large to be squared; they have no distances")
    selected = torch.empty(count, dtype=torch.long, device=points.device)
    done = 0
    while done < count:
        candidates = _candidates(distances)
        chosen = _select(points, norms, distances, candidates, count - done)
        _update(points, norms, distances, chosen)
        selected[done : done + len(chosen)] = chosen
        done += len(chosen)
    return selected


class _Candidates(NamedTuple):
    """The vectors with the largest distances, of equals the first.

    Attributes:
        indices: ``(B,)``, ascending.
        limit: largest distance of the others.
        first_other: index of the first of the others with this distance; N if there are none.
    """

    indices: Tensor
    limit: float
    first_other: int


def _project(vectors: Tensor, projected: int | None, generator: Generator) -> Tensor:
    """Projected vectors ``(N, d)``, float32, on the generator's device."""
    total, size = vectors.shape
    device = generator.device
    projection = None
    if projected is not None and projected < size:
        projection = torch.randn(size, projected, generator=generator, device=device) / projected**0.5
    points = torch.empty(total, size if projection is None else projection.shape[1], device=device)
    for start in range(0, total, CHUNK):
        chunk = vectors[start : start + CHUNK].to(device).float()
        points[start : start + CHUNK] = chunk if projection is None else chunk @ projection
    return points


def _start(points: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Squared mean distances from a few random points, and squared norms, both ``(N,)``; moves the points' mean to the origin."""
    total, device = len(points), points.device
    starts = points[torch.randperm(total, generator=generator, device=device)[:STARTS]]
    distances, norms = (torch.empty(total, device=device) for _ in range(2))
    mean = points.mean(0)
    for start in range(0, total, CHUNK):
        chunk = points[start : start + CHUNK]
        # A rough start: distances to selected vectors replace it as soon as they are shorter.
        distances[start : start + CHUNK] = torch.cdist(chunk, starts).mean(1).square()
        chunk -= mean  # ‖x − y‖² computed from products loses digits far from the origin
        norms[start : start + CHUNK] = chunk.square().sum(1)
    return distances, norms


def _candidates(distances: Tensor) -> _Candidates:
    total = len(distances)
    size = min(CANDIDATES, total)
    limit = distances.topk(min(size + 1, total), sorted=False).values.min()
    # topk says nothing of equals: those at the limit are taken in their order.
    farther, equal = (mask.nonzero()[:, 0] for mask in (distances > limit, distances == limit))
    taken = size - len(farther)
    first_other = int(equal[taken]) if taken < len(equal) else total
    return _Candidates(torch.cat([farther, equal[:taken]]).sort().values, float(limit), first_other)


def _select(points: Tensor, norms: Tensor, distances: Tensor, candidates: _Candidates, count: int) -> Tensor:
    """Indices of the next vectors in order of selection: at least one, because the first candidate is the farthest vector."""
    indices = candidates.indices
    vectors, squares = points[indices], norms[indices]
    between = torch.addmm(squares[:, None] + squares, vectors, vectors.T, alpha=-2).clamp_min_(0).cpu().numpy()
    # On the CPU, also for a GPU: a step takes a few microseconds there, less than the start of a GPU's kernels.
    remaining, order = distances[indices].cpu().numpy(), indices.cpu().numpy()
    chosen: list[int] = []
    while len(chosen) < count:
        farthest = int(remaining.argmax())
        if (remaining[farthest], -order[farthest]) < (candidates.limit, -candidates.first_other):
            break  # one of the others may be farther
        chosen.append(farthest)
        np.minimum(remaining, between[farthest], out=remaining)
        remaining[farthest] = -1
    return indices[torch.tensor(chosen, device=indices.device)]


def _update(points: Tensor, norms: Tensor, distances: Tensor, chosen: Tensor) -> None:
    """Shorten the distances to those from the chosen vectors, which are never chosen again, even among equal vectors."""
    vectors, squares = points[chosen], norms[chosen]
    rows = (CPU_DISTANCES if points.device.type == "cpu" else GPU_DISTANCES) // len(chosen)
    for start in range(0, len(points), rows):
        chunk = slice(start, start + rows)
        nearest = torch.addmm(squares, points[chunk], vectors.T, alpha=-2).amin(1).add_(norms[chunk]).clamp_min_(0)
        torch.minimum(distances[chunk], nearest, out=distances[chunk])
    distances[chosen] = -1
