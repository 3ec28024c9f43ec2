"""A part of many vectors from which none of them is far (Sener and Savarese, ICLR 2018; as PatchCore chooses its memory)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

STARTS = 10  # vectors from which the first distances are taken (PatchCore's "approximate" sampling)
CHUNK = 1 << 12  # vectors at a time, where that saves a copy of all of them


def coreset(vectors: Tensor, count: int, generator: Generator, *, projected: int | None = 128) -> Tensor:
    """Choose vectors one by one, each the one that is farthest from those chosen before.

    Distances are taken after a random projection, which keeps them within a few percent (Johnson and Lindenstrauss); the first
    ones are means over some random vectors in place of all, as in PatchCore. Of equals the first is taken.

    Args:
        vectors: ``(N, d)`` of any type and on any device, such as a memory map: they are read in chunks.
        count: how many to choose, 1 to N.
        generator: of the projection and the start; all is computed on its device.
        projected: dimensions of the projection; None: none.

    Returns:
        ``(count,)`` int64 indices in the order of choice, on the generator's device.

    Raises:
        ValueError: count is not in 1 to N.
    """
    total, size = vectors.shape
    if not 1 <= count <= total:
        raise ValueError(f"count: got {count} of {total} vectors; choose 1 to {total}")
    device = generator.device
    projection = None
    if projected is not None and projected < size:
        projection = torch.randn(size, projected, generator=generator, device=device) / projected**0.5
    points = torch.empty(total, size if projection is None else projection.shape[1], device=device)
    for start in range(0, total, CHUNK):
        part = vectors[start : start + CHUNK].to(device).float()
        points[start : start + CHUNK] = part if projection is None else part @ projection
    starts = points[torch.randperm(total, generator=generator, device=device)[:STARTS]]
    gaps, squares = (torch.empty(total, device=device) for _ in range(2))
    centre = points.mean(0)
    for start in range(0, total, CHUNK):
        part = points[start : start + CHUNK]
        # A coarse beginning: it is replaced by distances to what has been chosen as these get shorter.
        gaps[start : start + CHUNK] = torch.cdist(part, starts).mean(1).square()
        part -= centre  # ‖x − c‖² from products loses digits far from the origin
        squares[start : start + CHUNK] = part.square().sum(1)
    chosen = torch.empty(count, dtype=torch.long, device=device)
    for i in range(count):
        farthest = gaps.argmax()
        chosen[i] = farthest
        # One pass over the points, which is what this costs, in place of three.
        gaps = torch.minimum(gaps, (squares + squares[farthest]).addmv_(points, points[farthest], alpha=-2).clamp_min_(0))
        gaps[farthest] = -1  # not again, also where vectors are equal
    return chosen
