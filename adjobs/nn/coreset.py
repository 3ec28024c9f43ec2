"""Greedy k-center coreset: few vectors that are close to all others (Sener and Savarese, ICLR 2018; used by PatchCore)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

STARTS = 10  # random vectors whose mean distance starts the search (PatchCore's "approximate" sampling)
CHUNK = 1 << 12  # vectors processed at a time where that saves a copy of all of them


def coreset(vectors: Tensor, count: int, generator: Generator, *, projected: int | None = 128) -> Tensor:
    """Select vectors one by one, each the farthest from those selected before, the first of equals.

    Distances are computed after a random projection, which preserves them within a few percent (Johnson and Lindenstrauss). As in
    PatchCore, the search starts from the mean distances to a few random vectors.

    Args:
        vectors: ``(N, d)`` of any type and on any device, such as a memory map: read in chunks.
        count: number of vectors to select, 1 to N.
        generator: for the projection and the start; everything is computed on its device.
        projected: dimensions of the projection; None for no projection.

    Returns:
        ``(count,)`` int64 indices in order of selection, on the generator's device.

    Raises:
        ValueError: count is not in 1 to N.
    """
    total, size = vectors.shape
    if not 1 <= count <= total:
        raise ValueError(f"count: got {count}; must be between 1 and {total}, the number of vectors")
    device = generator.device
    projection = None
    if projected is not None and projected < size:
        projection = torch.randn(size, projected, generator=generator, device=device) / projected**0.5
    points = torch.empty(total, size if projection is None else projection.shape[1], device=device)
    for start in range(0, total, CHUNK):
        chunk = vectors[start : start + CHUNK].to(device).float()
        points[start : start + CHUNK] = chunk if projection is None else chunk @ projection
    starts = points[torch.randperm(total, generator=generator, device=device)[:STARTS]]
    distances, norms = (torch.empty(total, device=device) for _ in range(2))  # both squared
    mean = points.mean(0)
    for start in range(0, total, CHUNK):
        chunk = points[start : start + CHUNK]
        # A rough start: distances to selected vectors replace it as soon as they are shorter.
        distances[start : start + CHUNK] = torch.cdist(chunk, starts).mean(1).square()
        chunk -= mean  # ‖x − y‖² computed from products loses digits far from the origin
        norms[start : start + CHUNK] = chunk.square().sum(1)
    selected = torch.empty(count, dtype=torch.long, device=device)
    for i in range(count):
        farthest = distances.argmax()
        selected[i] = farthest
        # Fused into one pass over the points instead of three: it dominates the run time.
        to_farthest = (norms + norms[farthest]).addmv_(points, points[farthest], alpha=-2).clamp_min_(0)
        distances = torch.minimum(distances, to_farthest)
        distances[farthest] = -1  # never selected again, even among equal vectors
    return selected
