"""Distances counted in units of the spread that normal images have, at one place or at each of many."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Moments:
    """Centre and covariance of vectors that come in batches; places are kept apart. Sums are float64."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | None = None
        self._outer: Tensor | None = None

    def add(self, vectors: Tensor) -> None:
        """Count in ``(N, *places, d)`` vectors."""
        exact = vectors.double()
        total, outer = exact.sum(0), torch.einsum("n...i,n...j->...ij", exact, exact)
        self.count += len(vectors)
        self._sum = total if self._sum is None else self._sum + total
        self._outer = outer if self._outer is None else self._outer + outer

    def result(self) -> tuple[Tensor, Tensor]:
        """Centre ``(*places, d)`` and covariance ``(*places, d, d)``, with N − 1; float64.

        Raises:
            ValueError: nothing was counted in.
        """
        if self._sum is None or self._outer is None:
            raise ValueError("no vectors were counted in")
        centre = self._sum / self.count
        centred = self._outer - self.count * torch.einsum("...i,...j->...ij", centre, centre)
        return centre, centred / max(1, self.count - 1)


def whitening(covariance: Tensor, shrinkage: float) -> Tensor:
    """Matrices W with ‖W(x − c)‖² the squared Mahalanobis distance of x from a centre c.

    Every direction's variance grows by ``shrinkage`` times the mean variance of its place, since there may be fewer samples than
    dimensions. Samples that are all alike have no spread to count in: there the distance is the Euclidean one.

    Args:
        covariance: ``(*places, d, d)``.
        shrinkage: > 0.

    Returns:
        ``(*places, d, d)``, of the covariance's type.
    """
    mean = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    unit = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    floor = torch.where(mean > 0, shrinkage * mean, torch.ones_like(mean))
    lower = torch.linalg.cholesky(covariance + floor * unit)
    inverse: Tensor = torch.linalg.solve_triangular(lower, unit.expand_as(lower), upper=False)
    return inverse


class Spread(nn.Module):
    """Squared Mahalanobis distance; plain Euclidean from the origin until it is measured."""

    centre: Tensor
    whiten: Tensor

    def __init__(self, size: int, places: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(*places, size))
        self.register_buffer("whiten", torch.eye(size).repeat(*places, 1, 1))

    def measure(self, moments: Moments, shrinkage: float) -> None:
        """Take centre and spread of the vectors of normal images."""
        centre, covariance = moments.result()
        self.centre.copy_(centre)
        self.whiten.copy_(whitening(covariance, shrinkage))

    def forward(self, vectors: Tensor) -> Tensor:
        """Squared distances of ``(B, *places, d)`` vectors, ``(B, *places)``."""
        return torch.einsum("b...j,...ij->b...i", vectors - self.centre, self.whiten).square().sum(-1)
