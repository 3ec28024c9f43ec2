"""Exact nearest neighbours among many vectors, as matrix products in tiles."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TILE_ROWS = 1 << 14  # of the bank, squared at a time
TILE_VALUES = 1 << 25  # products held at a time: 128 MiB in float32


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
        bank: ``(M, d)``, of the same type and on the same device.
        k: 1 to M.
        own: ``(Q,)`` int64, what each query belongs to, such as the number of its image.
        owners: ``(M,)`` int64, the same for the bank: a query does not match what belongs to its own.
        tile: queries at a time; None: as many as keep the products in 128 MiB.

    Raises:
        ValueError: k is not in 1 to M, or only one of ``own`` and ``owners`` is given.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k: got {k}, the bank holds {len(bank)} vectors; choose 1 to {len(bank)}")
    if (own is None) != (owners is None):
        raise ValueError("own, owners: got one without the other; give both, or none")
    # Far from the origin the products are large against the distances; a shift changes none of these.
    centre = bank.mean(0, keepdim=True)
    shifted = bank - centre
    squares = torch.cat(
        [part.float().square().sum(1) for part in torch.split(shifted, TILE_ROWS)]
    )  # part by part: no second copy
    step = tile or max(1, TILE_VALUES // len(bank))
    found = []
    for start in range(0, len(queries), step):
        part = queries[start : start + step]
        gaps = squares - 2 * ((part - centre) @ shifted.T).float()
        if own is not None and owners is not None:
            gaps.masked_fill_(own[start : start + step, None] == owners, torch.inf)
        found.append(_refined(part, bank, gaps.topk(k, largest=False)))
    distances, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Neighbours(distances, indices)


def _refined(queries: Tensor, bank: Tensor, candidates: torch.return_types.topk) -> tuple[Tensor, Tensor]:
    """Distances of the candidates from their differences, in order."""
    gaps, indices = candidates
    exact = (queries[:, None].float() - bank[indices].float()).square().sum(2).sqrt()
    distances, order = exact.masked_fill(gaps == torch.inf, torch.inf).sort(dim=1, stable=True)
    return distances, indices.gather(1, order)
