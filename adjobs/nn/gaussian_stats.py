"""Mahalanobis distances to normal images: a Gaussian of their vectors, one for all positions or one per position."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Below this mean variance, vectors differ by rounding only, and there is no scale to count distances in.
MIN_VARIANCE = 1e-12


class Moments:
    """Mean and covariance per position of vectors that come in batches; float64, without the cancellation of plain sums."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._scatter = torch.zeros(0)

    def add(self, vectors: Tensor) -> None:
        """Add N vectors per position, ``(N, *positions, d)``."""
        batch = _flatten_positions(vectors).transpose(0, 1).double()  # (P, N, d)
        mean = batch.mean(1)
        batch = batch - mean[:, None]
        scatter = batch.mT @ batch
        if not self.count:
            self.count, self._mean, self._scatter = len(vectors), mean, scatter
            return
        total = self.count + len(vectors)
        delta = mean - self._mean
        self._scatter += scatter.add_(delta[:, :, None] * delta[:, None], alpha=self.count * len(vectors) / total)
        self._mean += delta * (len(vectors) / total)
        self.count = total

    def result(self) -> tuple[Tensor, Tensor]:
        """Means ``(P, d)`` and unbiased covariances ``(P, d, d)`` of the P positions, float64.

        Raises:
            ValueError: no vectors were added.
        """
        if not self.count:
            raise ValueError("no vectors were added")
        return self._mean, self._scatter / max(1, self.count - 1)


def whitening_matrices(covariance: Tensor, shrinkage: float) -> Tensor:
    """Matrices W such that ‖W(x − μ)‖² is the squared Mahalanobis distance of x from the mean μ.

    The variance of every direction grows by ``shrinkage`` times the mean variance over all positions, because there may be fewer
    samples than dimensions, and positions that never vary. If all samples are equal, the distance is Euclidean.

    Args:
        covariance: ``(P, d, d)``.
        shrinkage: > 0.

    Returns:
        ``(P, d, d)`` float32.
    """
    mean_variance = covariance.diagonal(dim1=-2, dim2=-1).mean()
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    floor = torch.where(mean_variance > MIN_VARIANCE, shrinkage * mean_variance, torch.ones_like(mean_variance))
    whitening = torch.empty(covariance.shape, device=covariance.device)
    for at_position, matrix in zip(whitening, covariance, strict=True):  # one by one: float64 copies of all take much memory
        lower = torch.linalg.cholesky(matrix + floor * identity)
        at_position.copy_(torch.linalg.solve_triangular(lower, identity, upper=False))
    return whitening


class GaussianStats(nn.Module):
    """Squared Mahalanobis distance; Euclidean distance from the origin until it is fitted.

    Args:
        dims: d, length of the vectors.
        positions: shape of the grid of positions that have a Gaussian each; empty for a single Gaussian.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, dims: int, positions: Sequence[int] = ()) -> None:
        super().__init__()
        # Positions are flattened: buffers of four dimensions would be permuted by a conversion to channels-last.
        self.register_buffer("mean", torch.zeros(math.prod(positions), dims))
        self.register_buffer("whitening", torch.eye(dims).repeat(math.prod(positions), 1, 1))

    def fit(self, moments: Moments, shrinkage: float) -> None:
        """Take mean and covariance from the vectors of normal images; for ``shrinkage`` see `whitening_matrices`."""
        mean, covariance = moments.result()
        self.mean.copy_(mean)
        self.whitening.copy_(whitening_matrices(covariance, shrinkage))

    def forward(self, vectors: Tensor) -> Tensor:
        """Squared distances ``(B, *positions)`` of ``(B, *positions, d)`` vectors."""
        centred = (_flatten_positions(vectors) - self.mean).transpose(0, 1)  # (P, B, d)
        return (centred @ self.whitening.mT).square().sum(-1).T.reshape(vectors.shape[:-1])


def _flatten_positions(vectors: Tensor) -> Tensor:
    """``(N, *positions, d)`` as ``(N, P, d)``."""
    return vectors.reshape(len(vectors), -1, vectors.shape[-1])
