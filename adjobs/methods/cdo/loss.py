"""CDO's equations. Discrepancies are computed at least in float32, whatever the precision of the networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Lower bound of discrepancies in ratios, and upper bound of a pixel's weight: the weight of a simulated pixel on which apprentice
# and expert happen to agree would otherwise be unbounded.
MIN_DISCREPANCY = 1e-6
MAX_WEIGHT = 1e4


def discrepancies(expert: Sequence[Tensor], apprentice: Sequence[Tensor], kind: str = "sq") -> Tensor:
    """Distance between the two networks' unit-length features at every position, eq. (3).

    All levels are first resized to the first one, as in the published code.

    Args:
        expert: L maps ``(B, C_l, H_l, W_l)``.
        apprentice: maps of the same shapes.
        kind: ``sq`` (‖f̂_E − f̂_A‖², in [0, 4]) or ``l2`` (‖f̂_E − f̂_A‖, in [0, 2]).

    Returns:
        ``(L, B, H_1, W_1)``, float32 or better.
    """
    size = expert[0].shape[-2:]
    by_level = differences([_resize(maps, size) for maps in expert], [_resize(maps, size) for maps in apprentice])
    squared = torch.stack([d.square().sum(1) for d in by_level])
    return squared if kind == "sq" else squared.clamp_min(MIN_DISCREPANCY**2).sqrt()


def differences(expert: Sequence[Tensor], apprentice: Sequence[Tensor]) -> list[Tensor]:
    """Difference f̂_E − f̂_A of the two networks' unit-length features at every position, at the size of each level.

    Args:
        expert: maps ``(B, C_l, H_l, W_l)``.
        apprentice: maps of the same shapes.

    Returns:
        Maps of the same shapes, float32 or better.
    """
    return [
        F.normalize(at_least_float32(e), dim=1) - F.normalize(at_least_float32(a), dim=1)
        for e, a in zip(expert, apprentice, strict=True)
    ]


def at_least_float32(maps: Tensor) -> Tensor:
    """Maps of lower precision as float32, others unchanged."""
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


def _resize(maps: Tensor, size: torch.Size) -> Tensor:
    """Maps at a size; those that already have it are unchanged."""
    return maps if maps.shape[-2:] == size else F.interpolate(at_least_float32(maps), size, mode="bilinear", align_corners=True)


def cdo_loss(
    d: Tensor,
    normal: Tensor,
    synthetic: Tensor,
    gamma: float,
    *,
    total: Callable[[Tensor], Tensor] = lambda value: value,
) -> Tensor:
    """Collaborative discrepancy loss of each level, eqs. (5) to (8).

    Minimises discrepancies of normal positions and maximises those of synthetic ones. Normal positions with a discrepancy above
    the normal mean weigh more, and synthetic ones below the synthetic mean. The loss is negative once both are separated.

    Args:
        d: discrepancies ``(L, B, H, W)``, ≥ 0.
        normal: ``(B, H, W)`` bool, positions known to be normal.
        synthetic: ``(B, H, W)`` bool, positions of simulated or labelled defects; without any, the loss is eq. (4).
        gamma: exponent γ of eq. (7); 0 gives the plain means of eq. (5).
        total: sums over the workers, so that means, weights and loss are those of the global batch.

    Returns:
        ``(L,)``; their sum is the loss of the paper.
    """
    is_normal, is_synthetic = normal.to(d.dtype), synthetic.to(d.dtype)
    positions = (1, 2, 3)
    with torch.no_grad():
        sums = total(torch.stack([(d * is_normal).sum(positions), (d * is_synthetic).sum(positions)]))
        counts = total(torch.stack([is_normal.sum(), is_synthetic.sum()]))
        mean_n, mean_s = sums / counts.clamp_min(1)[:, None]  # (L,) each; an empty set has mean 0 and contributes nothing
        safe = d.clamp_min(MIN_DISCREPANCY)
        weight_n = is_normal * (safe / mean_n.clamp_min(MIN_DISCREPANCY).view(-1, 1, 1, 1)).pow(gamma).clamp_max(MAX_WEIGHT)
        weight_s = is_synthetic * (mean_s.clamp_min(MIN_DISCREPANCY).view(-1, 1, 1, 1) / safe).pow(gamma).clamp_max(MAX_WEIGHT)
        weights = total((weight_n + weight_s).sum(positions))
    return total((weight_n * d - weight_s * d).sum(positions)) / weights
