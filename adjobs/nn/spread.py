"""Distances counted in units of the spread that normal images have, at one place or at each of many."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# A variance under this is that of vectors which are all alike but for rounding: there is nothing to count in.
MIN_VARIANCE = 1e-12


class Moments:
    """Centre and covariance of vectors that come in batches, places apart; float64, without the cancellation of plain sums."""

    def __init__(self) -> None:
        self.count = 0
        self._centre = self._outer = torch.zeros(0)

    def add(self, vectors: Tensor) -> None:
        """Count in ``(N, *places, d)`` vectors."""
        new = _flat(vectors).transpose(0, 1).double()  # (P, N, d)
        centre = new.mean(1)
        new = new - centre[:, None]
        outer = new.mT @ new
        if not self.count:
            self.count, self._centre, self._outer = len(vectors), centre, outer
            return
        total = self.count + len(vectors)
        step = centre - self._centre
        self._outer += outer.add_(step[:, :, None] * step[:, None], alpha=self.count * len(vectors) / total)
        self._centre += step * (len(vectors) / total)
        self.count = total

    def result(self) -> tuple[Tensor, Tensor]:
        """Centre ``(P, d)`` and covariance ``(P, d, d)``, with N − 1, of the P places.

        Raises:
            ValueError: nothing was counted in.
        """
        if not self.count:
            raise ValueError("no vectors were counted in")
        return self._centre, self._outer / max(1, self.count - 1)


def whitening(covariance: Tensor, shrinkage: float) -> Tensor:
    """Matrices W with ‖W(x − c)‖² the squared Mahalanobis distance of x from a centre c.

    Every direction's variance grows by ``shrinkage`` times the mean variance over all places, since there may be fewer samples
    than dimensions, and places that never vary. Samples that are all alike everywhere leave the Euclidean distance.

    Args:
        covariance: ``(P, d, d)``.
        shrinkage: > 0.

    Returns:
        ``(P, d, d)`` float32.
    """
    mean = covariance.diagonal(dim1=-2, dim2=-1).mean()
    unit = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    floor = torch.where(mean > MIN_VARIANCE, shrinkage * mean, torch.ones_like(mean))
    whiten = torch.empty(covariance.shape, device=covariance.device)
    for here, matrix in zip(whiten, covariance, strict=True):  # one place at a time: all of them in float64 want much memory
        lower = torch.linalg.cholesky(matrix + floor * unit)
        here.copy_(torch.linalg.solve_triangular(lower, unit, upper=False))
    return whiten


class Spread(nn.Module):
    """Squared Mahalanobis distance; plain Euclidean from the origin until it is measured."""

    centre: Tensor
    whiten: Tensor

    def __init__(self, size: int, places: Sequence[int] = ()) -> None:
        super().__init__()
        # Places in one dimension: buffers of four would be permuted with a network that is put in channels-last order.
        self.register_buffer("centre", torch.zeros(math.prod(places), size))
        self.register_buffer("whiten", torch.eye(size).repeat(math.prod(places), 1, 1))

    def measure(self, moments: Moments, shrinkage: float) -> None:
        """Take centre and spread of the vectors of normal images."""
        centre, covariance = moments.result()
        self.centre.copy_(centre)
        self.whiten.copy_(whitening(covariance, shrinkage))

    def forward(self, vectors: Tensor) -> Tensor:
        """Squared distances of ``(B, *places, d)`` vectors, ``(B, *places)``."""
        centred = (_flat(vectors) - self.centre).transpose(0, 1)  # (P, B, d)
        return (centred @ self.whiten.mT).square().sum(-1).T.reshape(vectors.shape[:-1])


def _flat(vectors: Tensor) -> Tensor:
    """``(N, *places, d)`` as ``(N, P, d)``."""
    return vectors.reshape(len(vectors), -1, vectors.shape[-1])
