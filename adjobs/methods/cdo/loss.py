"""CDO's equations. Discrepancies are at least float32 whatever the precision of the networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Discrepancies under this count as this much in a ratio, and no pixel weighs more than MAX_WEIGHT: a simulated pixel on which
# apprentice and expert agree by chance would otherwise have a weight without bound.
MIN_DISCREPANCY = 1e-6
MAX_WEIGHT = 1e4


def discrepancies(expert: Sequence[Tensor], apprentice: Sequence[Tensor], dist: str = "sq") -> Tensor:
    """Distance of the two networks' unit-length features at every position, eq. (3).

    All hierarchies are first brought to the size of the first one, as in the published code.

    Args:
        expert: L maps ``(B, C_l, H_l, W_l)``.
        apprentice: maps of the same shapes.
        dist: ``sq`` (‖f̂_E − f̂_A‖², in [0, 4]) or ``l2`` (‖f̂_E − f̂_A‖, in [0, 2]).

    Returns:
        ``(L, B, H_1, W_1)``, float32 or better.
    """
    size = expert[0].shape[-2:]
    found = differences([_at(size, maps) for maps in expert], [_at(size, maps) for maps in apprentice])
    squared = torch.stack([d.square().sum(1) for d in found])
    return squared if dist == "sq" else squared.clamp_min(MIN_DISCREPANCY**2).sqrt()


def differences(expert: Sequence[Tensor], apprentice: Sequence[Tensor]) -> list[Tensor]:
    """f̂_E − f̂_A: what the two networks' unit-length features differ by at every position, at the size of each hierarchy.

    Args:
        expert: maps ``(B, C_l, H_l, W_l)``.
        apprentice: maps of the same shapes.

    Returns:
        Maps of the same shapes, float32 or better.
    """
    return [F.normalize(_precise(e), dim=1) - F.normalize(_precise(a), dim=1) for e, a in zip(expert, apprentice, strict=True)]


def _precise(maps: Tensor) -> Tensor:
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


def _at(size: torch.Size, maps: Tensor) -> Tensor:
    """Maps at a size; those that have it already are left alone."""
    return maps if maps.shape[-2:] == size else F.interpolate(_precise(maps), size, mode="bilinear", align_corners=True)


def cdo_loss(
    d: Tensor,
    normal: Tensor,
    synthetic: Tensor,
    gamma: float,
    *,
    total: Callable[[Tensor], Tensor] = lambda value: value,
) -> Tensor:
    """Collaborative discrepancy loss of each hierarchy, eqs. (5) to (8).

    Normal positions are pulled together and synthetic ones driven apart; those far from (normal) or near to (synthetic) their
    kind's mean weigh more. The loss is negative once the margin is won.

    Args:
        d: discrepancies ``(L, B, H, W)``, ≥ 0.
        normal: ``(B, H, W)`` bool, positions known to be good.
        synthetic: ``(B, H, W)`` bool, positions that carry a simulated or labelled defect; without any, the loss is eq. (4).
        gamma: exponent γ of eq. (7); 0 gives the plain means of eq. (5).
        total: sum over the workers, so that means, weights and loss are those of the global batch.

    Returns:
        ``(L,)``; their sum is the loss of the paper.
    """
    good, defect = normal.to(d.dtype), synthetic.to(d.dtype)
    positions = (1, 2, 3)
    with torch.no_grad():
        sums = total(torch.stack([(d * good).sum(positions), (d * defect).sum(positions)]))
        counts = total(torch.stack([good.sum(), defect.sum()]))
        mean_n, mean_s = sums / counts.clamp_min(1)[:, None]  # (L,) each; an empty set has mean 0 and no terms
        safe = d.clamp_min(MIN_DISCREPANCY)
        weight_n = good * (safe / mean_n.clamp_min(MIN_DISCREPANCY).view(-1, 1, 1, 1)).pow(gamma).clamp_max(MAX_WEIGHT)
        weight_s = defect * (mean_s.clamp_min(MIN_DISCREPANCY).view(-1, 1, 1, 1) / safe).pow(gamma).clamp_max(MAX_WEIGHT)
        weights = total((weight_n + weight_s).sum(positions))
    return total((weight_n * d - weight_s * d).sum(positions)) / weights
