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


def whitening(samples: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Centre c and matrix W with ‖W(x − c)‖² the squared Mahalanobis distance of x from the samples.

    Every direction's variance grows by ``shrinkage`` times the mean variance, since there may be fewer samples than dimensions.

    Args:
        samples: ``(N, d)``.
        shrinkage: > 0.

    Returns:
        ``(d,)`` and ``(d, d)``, float32; computed in float64.
    """
    exact = samples.double()
    centre = exact.mean(0)
    centred = exact - centre
    covariance = centred.T @ centred / max(1, len(exact) - 1)
    mean = covariance.diagonal().mean()
    # Samples that are all alike have no spread to count in: then the distance is the Euclidean one.
    floor = torch.where(mean > 0, shrinkage * mean, torch.ones_like(mean))
    unit = torch.eye(len(covariance), dtype=exact.dtype, device=exact.device)
    lower = torch.linalg.cholesky(covariance + floor * unit)
    return centre.float(), torch.linalg.solve_triangular(lower, unit, upper=False).float()
