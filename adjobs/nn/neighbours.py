"""Exact nearest neighbours among many vectors, as matrix products in tiles."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Of the bank, and of products, at a time. A processor goes through products several times, and they stay in its cache (16 MiB);
# on a GPU every tile starts some kernels, so that they are few (256 MiB).
TILES = {"cpu": (1 << 10, 1 << 22), "cuda": (1 << 14, 1 << 26)}


class Neighbours(NamedTuple):
    """The nearest vectors of a bank, nearest first.

    Attributes:
        distances: ``(Q, k)`` float32, Euclidean; inf where fewer than k vectors may be matched.
        indices: ``(Q, k)`` int64 into the bank; of no meaning where the distance is inf.
    """

    distances: Tensor
    indices: Tensor


def nearest(
    queries: Tensor, bank: Tensor, k: int, *, own: Tensor | None = None, owners: Tensor | None = None, tile: int | None = None
) -> Neighbours:
    """Find the k nearest vectors of a bank for each query.

    ‖q − m‖² = ‖q‖² − 2 q·m + ‖m‖² loses digits where q and m are nearly the same, so that the distances of those that are found
    are computed anew from their differences.

    Args:
        queries: ``(Q, d)``.
        bank: ``(M, d)``, on the same device. On a processor, which multiplies halves slowly, halves are searched in float32.
        k: 1 to M.
        own: ``(Q,)`` int64, what each query belongs to, such as the number of its image.
        owners: ``(M,)`` int64, the same for the bank: a query does not match what belongs to its own.
        tile: vectors of the bank, and queries, at a time; None: as many as suit the device.

    Raises:
        ValueError: k is not in 1 to M, or only one of ``own`` and ``owners`` is given.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k: got {k}, the bank holds {len(bank)} vectors; choose 1 to {len(bank)}")
    if (own is None) != (owners is None):
        raise ValueError("own, owners: got one without the other; give both, or none")
    device = bank.device.type
    dtype = bank.dtype if device == "cuda" else torch.promote_types(bank.dtype, torch.float32)
    rows, values = TILES[device]
    rows, step = (tile, tile) if tile else (rows, values // rows)
    # Far from the origin the products are large against the distances; a shift changes none of these.
    centre = (torch.stack([part.float().sum(0) for part in torch.split(bank, rows)]).sum(0) / len(bank)).to(dtype)
    shifted = queries.to(dtype) - centre
    best = Neighbours(*(queries.new_zeros(len(queries), k, dtype=kind) for kind in (torch.float32, torch.long)))
    best.distances.fill_(torch.inf)
    for first in range(0, len(bank), rows):
        part = bank[first : first + rows].to(dtype) - centre
        squares = part.float().square().sum(1)
        for start in range(0, len(queries), step):
            here = slice(start, start + step)
            gaps = torch.sub(squares, (shifted[here] @ part.T).float(), alpha=2)
            if own is not None and owners is not None:
                gaps.masked_fill_(own[here, None] == owners[first : first + rows], torch.inf)
            _keep(best, here, gaps, first)
    every = (torch.split(values, step) for values in (queries, *best))
    found = [_refined(bank, *parts) for parts in zip(*every, strict=True)]
    return Neighbours(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _keep(best: Neighbours, here: slice, gaps: Tensor, first: int) -> None:
    """Put those of another part of the bank, which begins at ``first``, beside the best so far, and keep the best of both."""
    k = best.distances.shape[1]
    new = gaps.topk(min(k, gaps.shape[1]), largest=False)
    both = torch.cat([best.distances[here], new.values], 1), torch.cat([best.indices[here], new.indices + first], 1)
    best.distances[here], order = both[0].topk(k, largest=False)
    best.indices[here] = both[1].gather(1, order)


def _refined(bank: Tensor, queries: Tensor, gaps: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of the candidates from their differences, in order."""
    exact = (queries[:, None].float() - bank[indices].float()).square().sum(2).sqrt()
    distances, order = exact.masked_fill(gaps == torch.inf, torch.inf).sort(dim=1, stable=True)
    return distances, indices.gather(1, order)
