"""DPAE's equations. Distances are computed at least in float32, whatever the precision of the networks."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """‖a − b‖² of B pairs, ``(B, …)`` to ``(B,)``: eq. (4) for images, eq. (10) for latent vectors."""
    precise = torch.promote_types(a.dtype, torch.float32)
    return (a.to(precise) - b.to(precise)).square().flatten(1).sum(1)


def move_prototype(prototype: Tensor, mean: Tensor, alpha: float) -> Tensor:
    """The prototype after a batch: v − α · mean(v − z), eq. (7) with the rate of center loss; no gradient.

    Args:
        prototype: ``(d,)``.
        mean: mean latent vector of the global batch, ``(d,)``.
        alpha: rate α in (0, 1].
    """
    return prototype - alpha * (prototype - mean.detach().to(prototype.dtype))
