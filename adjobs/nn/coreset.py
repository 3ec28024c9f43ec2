"""A part of many vectors from which none of them is far (Sener and Savarese, ICLR 2018; as PatchCore chooses its memory)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

STARTS = 10  # vectors from which the first distances are taken (PatchCore's "approximate" sampling)


def coreset(vectors: Tensor, count: int, generator: Generator, *, projected: int | None = 128) -> Tensor:
    """Choose vectors one by one, each the one that is farthest from those chosen before.

    Distances are taken after a random projection, which keeps them within a few percent (Johnson and Lindenstrauss); the first
    ones are means over some random vectors in place of all, as in PatchCore. Of equals the first is taken.

    Args:
        vectors: ``(N, d)``.
        count: how many to choose, 1 to N.
        generator: of the projection and the start, on the vectors' device.
        projected: dimensions of the projection; None: none.

    Returns:
        ``(count,)`` int64 indices in the order of choice.

    Raises:
        ValueError: count is not in 1 to N.
    """
    total, size = vectors.shape
    if not 1 <= count <= total:
        raise ValueError(f"count: got {count} of {total} vectors; choose 1 to {total}")
    points = vectors.float()
    if projected is not None and projected < size:
        points = points @ torch.randn(size, projected, generator=generator, device=points.device) / projected**0.5
    starts = points[torch.randperm(total, generator=generator, device=points.device)[:STARTS]]
    # A coarse beginning: it is replaced by distances to what has been chosen as these get shorter.
    gaps = torch.cdist(points, starts).mean(1)
    chosen = torch.empty(count, dtype=torch.long, device=points.device)
    for i in range(count):
        farthest = gaps.argmax()
        chosen[i] = farthest
        gaps = torch.minimum(gaps, (points - points[farthest]).square().sum(1).sqrt())
        gaps[farthest] = -1  # not again, also where vectors are equal
    return chosen
