"""Mahalanobis distances to normal images: a Gaussian of their vectors, one for all positions or one per position."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adjobs.parallel import in_threads

# Below this mean variance, vectors differ by rounding only, and there is no scale to count distances in.
MIN_VARIANCE = 1e-12
GPU_CHUNK_BYTES = 1 << 29  # for matrices that are inverted at a time
MATRICES = 4  # of float64 for each of them: the sum with the floor, its factor, and the inverse with its right-hand side


class Moments:
    """Mean and covariance per position of vectors that come in batches; float64, without the cancellation of plain sums."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = self._scatter = torch.zeros(0)

    def add(self, vectors: Tensor) -> None:
        """Add N vectors per position, ``(N, *positions, d)``."""
        batch = _flatten_positions(vectors).transpose(0, 1).double()  # (P, N, d)
        mean = batch.mean(1)
        if not self.count:
            self._mean, self._scatter = torch.zeros_like(mean), mean.new_zeros(*mean.shape, mean.shape[1])
        total = self.count + len(vectors)
        delta = mean - self._mean
        # The shift of the mean counts as one more sample: one product, added in place, because memory bounds the speed.
        shift = delta * math.sqrt(self.count * len(vectors) / total)
        rows = torch.cat([batch - mean[:, None], shift[:, None]], 1)
        self._scatter.baddbmm_(rows.mT, rows)
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

    Raises:
        ValueError: a covariance is not finite or has a negative variance.
    """
    mean_variance = covariance.diagonal(dim1=-2, dim2=-1).mean()
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    floor = torch.where(mean_variance > MIN_VARIANCE, shrinkage * mean_variance, torch.ones_like(mean_variance)) * identity
    whitening = torch.empty(covariance.shape, device=covariance.device)
    failures = torch.empty(len(covariance), dtype=torch.int32, device=covariance.device)

    def invert(positions: slice) -> None:
        lower, failures[positions] = torch.linalg.cholesky_ex(covariance[positions] + floor)
        whitening[positions] = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)

    if covariance.device.type == "cpu":  # LAPACK uses few threads for such small matrices
        in_threads(invert, [slice(i, i + 1) for i in range(len(covariance))], text="Gaussians")
    else:
        # Many at a time, to occupy a GPU, but not all: copies of all in float64 take much memory.
        size = max(1, GPU_CHUNK_BYTES // (MATRICES * identity.nbytes))
        for start in range(0, len(covariance), size):
            invert(slice(start, start + size))
    if failures.any():
        raise ValueError("covariances: got one that is not finite or has a negative variance")
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
        return self._whitened(vectors).square().sum(-1).T.reshape(vectors.shape[:-1])

    def whiten(self, vectors: Tensor) -> Tensor:
        """Vectors whose squared lengths are the distances, of ``(B, *positions, d)``."""
        return self._whitened(vectors).transpose(0, 1).reshape(vectors.shape)

    def _whitened(self, vectors: Tensor) -> Tensor:
        """`whiten` as ``(P, B, d)``."""
        centred = (_flatten_positions(vectors) - self.mean).transpose(0, 1)
        return centred @ self.whitening.mT


def _flatten_positions(vectors: Tensor) -> Tensor:
    """``(N, *positions, d)`` as ``(N, P, d)``."""
    return vectors.reshape(len(vectors), -1, vectors.shape[-1])
