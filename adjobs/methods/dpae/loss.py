"""DPAE's equations. Distances are at least float32 whatever the precision of the networks."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """‖a − b‖² of each of B vectors or pictures, ``(B, …)`` to ``(B,)``, ≥ 0: eq. (4) of pictures, eq. (10) of latents."""
    precise = torch.promote_types(a.dtype, torch.float32)
    return (a.to(precise) - b.to(precise)).square().flatten(1).sum(1)


def moved(prototype: Tensor, mean: Tensor, alpha: float) -> Tensor:
    """The prototype after a batch: v − α · mean(v − z), eq. (7) with the rate of center loss; carries no gradient.

    Args:
        prototype: ``(d,)``.
        mean: of the latent vectors of the global batch, ``(d,)``.
        alpha: rate α in (0, 1].
    """
    return prototype - alpha * (prototype - mean.detach().to(prototype.dtype))
