"""Exact nearest neighbours among many vectors, computed as matrix products in tiles."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adjobs import devices

# Vectors of the bank, and products, per tile. On a CPU products are read several times and should stay in its cache (16 MiB);
# on a GPU every tile launches several kernels, so tiles are large (256 MiB).
TILES = {"cpu": (1 << 10, 1 << 22), "cuda": (1 << 14, 1 << 26)}


class Neighbours(NamedTuple):
    """The nearest vectors of a bank, nearest first.

    Attributes:
        distances: ``(Q, k)`` float32, Euclidean; inf where fewer than k vectors may be matched.
        indices: ``(Q, k)`` int64, positions in the bank; undefined where the distance is inf.
    """

    distances: Tensor
    indices: Tensor


def nearest_neighbours(
    queries: Tensor,
    bank: Tensor,
    k: int,
    *,
    query_groups: Tensor | None = None,
    bank_groups: Tensor | None = None,
    tile: int | None = None,
) -> Neighbours:
    """Find the k nearest vectors of a bank for each query.

    ‖q − m‖² = ‖q‖² − 2 q·m + ‖m‖² loses digits where q and m are nearly equal, so the distances of the neighbours that are found
    are recomputed from differences.

    Args:
        queries: ``(Q, d)``.
        bank: ``(M, d)``, on the same device. On a CPU, which multiplies half precision slowly, it is searched in float32.
        k: number of neighbours, 1 to M.
        query_groups: ``(Q,)`` int64, group of each query, such as the index of its image.
        bank_groups: ``(M,)`` int64, group of each vector of the bank: a query matches no vector of its own group.
        tile: number of vectors of the bank, and of queries, per tile; None: depends on the device.

    Raises:
        ValueError: k is not in 1 to M, or only one of ``query_groups`` and ``bank_groups`` is given.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k: got {k}; must be between 1 and {len(bank)}, the number of vectors in the bank")
    if (query_groups is None) != (bank_groups is None):
        raise ValueError("query_groups, bank_groups: got only one of them; give both or neither")
    dtype = bank.dtype if devices.is_gpu(bank.device) else torch.promote_types(bank.dtype, torch.float32)
    bank_step, products = TILES[bank.device.type]
    bank_step, query_step = (tile, tile) if tile else (bank_step, products // bank_step)
    # Far from the origin, products are large compared to distances; a shift changes no distance.
    mean = (torch.stack([chunk.float().sum(0) for chunk in torch.split(bank, bank_step)]).sum(0) / len(bank)).to(dtype)
    shifted = queries.to(dtype) - mean
    best = Neighbours(*(queries.new_zeros(len(queries), k, dtype=kind) for kind in (torch.float32, torch.long)))
    best.distances.fill_(torch.inf)
    for bank_start in range(0, len(bank), bank_step):
        chunk = bank[bank_start : bank_start + bank_step].to(dtype) - mean
        norms = chunk.float().square().sum(1)
        for start in range(0, len(queries), query_step):
            block = slice(start, start + query_step)
            # ‖q − m‖² − ‖q‖²: the same order.
            gaps = torch.sub(norms, (shifted[block] @ chunk.T).float(), alpha=2)
            if query_groups is not None and bank_groups is not None:
                gaps.masked_fill_(query_groups[block, None] == bank_groups[bank_start : bank_start + bank_step], torch.inf)
            _merge(best, block, gaps, bank_start)
    blocks = zip(*(torch.split(values, query_step) for values in (queries, *best)), strict=True)
    refined = [_recompute_distances(bank, *block) for block in blocks]
    return Neighbours(*(torch.cat(values) for values in zip(*refined, strict=True)))


def _merge(best: Neighbours, block: slice, gaps: Tensor, bank_start: int) -> None:
    """Merge candidates from the bank's vectors from ``bank_start`` on into the best so far of a block of queries."""
    k = best.distances.shape[1]
    candidates = gaps.topk(min(k, gaps.shape[1]), largest=False)
    distances = torch.cat([best.distances[block], candidates.values], 1)
    indices = torch.cat([best.indices[block], candidates.indices + bank_start], 1)
    best.distances[block], order = distances.topk(k, largest=False)
    best.indices[block] = indices.gather(1, order)


def _recompute_distances(bank: Tensor, queries: Tensor, gaps: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of the neighbours from differences, and their indices, sorted."""
    exact = (queries[:, None].float() - bank[indices].float()).square().sum(2).sqrt()
    distances, order = exact.masked_fill(gaps == torch.inf, torch.inf).sort(dim=1, stable=True)
    return distances, indices.gather(1, order)
