"""Mahalanobis distance of vectors at the places of a map from those of normal images at the same place, as in PaDiM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from adjobs.nn.gaussian_stats import GaussianStats, Moments

MIN_REMAINING = 1e-6  # of a direction's variance without an image, as a share of that with it; less is rounding


class PlaceMoments:
    """Mean and covariance at each cell of maps that come in batches."""

    def __init__(self, cell: int) -> None:
        self.cell, self.by_cell = cell, Moments()

    def add(self, maps: Tensor) -> None:
        """Add maps ``(B, d, H, W)``."""
        self.by_cell.add(_cell_vectors(maps, self.cell))


class PlaceStats(nn.Module):
    """A Gaussian for every place of a map, and distances from them, which hardly depend on the number of channels.

    Args:
        channels: d, number of channels of the maps.
        size: their height and width.
        grid: maximum number of Gaussians per side; on larger maps, square cells of positions share one.
        shrinkage: fraction of the mean variance that is added to the variance of every direction.
    """

    def __init__(self, channels: int, size: tuple[int, int], grid: int, shrinkage: float) -> None:
        super().__init__()
        self.cell, self.shrinkage = cell_size(size, grid), shrinkage
        self.stats = GaussianStats(channels, [length // self.cell for length in size])

    def moments(self) -> PlaceMoments:
        """Moments to which maps of normal images are added before `fit`."""
        return PlaceMoments(self.cell)

    def fit(self, moments: PlaceMoments) -> None:
        """Take means and covariances."""
        self.stats.fit(moments.by_cell, self.shrinkage)

    def left_out(self, maps: Tensor, moments: PlaceMoments) -> Tensor:
        """`forward` of maps that are among the ``moments``, each image as if it were not.

        Distances of the very vectors that a Gaussian was fitted to are too small, the more so the fewer they are: with fewer of
        them than channels they are nearly equal. Let D be the k vectors of an image in a cell, less the mean of all n, and M be
        I + 11ᵀ / (n − k). Less the mean of the others they are M D, and the others' scatter is smaller by Dᵀ M D; the inverse
        follows by Woodbury's identity. A single image keeps its distances.
        """
        n, k = moments.by_cell.count, self.cell**2
        if n == k:
            return self(maps)  # type: ignore[no-any-return]
        whitened = self.stats.whiten(_cell_vectors(maps, self.cell)).double()
        by_image = whitened.view(-1, k, *whitened.shape[1:]).movedim(1, -2)  # (B, rows, columns, k, d)
        identity = torch.eye(k, dtype=by_image.dtype, device=by_image.device)
        root = identity + ((n / (n - k)) ** 0.5 - 1) / k  # of M
        shares, directions = torch.linalg.eigh(root @ by_image @ by_image.mT @ root)
        lengths = shares.clamp_min(0) / (1 - shares / (n - 1)).clamp_min(MIN_REMAINING)
        squared = ((root @ directions).square() * lengths[..., None, :]).sum(-1)
        return self._by_position((squared / maps.shape[1]).sqrt().movedim(-1, 1).flatten(0, 1).to(maps.dtype))

    def forward(self, maps: Tensor) -> Tensor:
        """Mahalanobis distances divided by √d, ``(B, H, W)``, of maps ``(B, d, H, W)``: about 1 on normal images."""
        vectors = _cell_vectors(maps, self.cell)
        return self._by_position((self.stats(vectors) / vectors.shape[-1]).sqrt())

    def _by_position(self, distances: Tensor) -> Tensor:
        """Distances ``(B · cell², rows, columns)`` of the positions of cells as ``(B, H, W)``."""
        rows, columns, cell = *distances.shape[1:], self.cell
        by_position = distances.view(-1, cell, cell, rows, columns).permute(0, 3, 1, 4, 2)
        return by_position.reshape(-1, rows * cell, columns * cell)


def draw_channels(channels: int, max_channels: int, seed: int) -> Tensor:
    """Sorted indices of the channels that are used: all, or ``max_channels`` drawn at random, as in PaDiM."""
    permutation = torch.randperm(channels, generator=Generator().manual_seed(seed))
    return permutation[:max_channels].sort().values


def cell_size(size: Sequence[int], grid: int) -> int:
    """Side of the smallest square cells that tile a map of this size with at most ``grid`` cells per side.

    >>> cell_size((32, 32), 16), cell_size((28, 28), 16)
    (2, 2)
    """
    return next(side for side in range(1, max(size) + 1) if all(n % side == 0 and n // side <= grid for n in size))


def _cell_vectors(maps: Tensor, cell: int) -> Tensor:
    """Vectors ``(B · cell², rows, columns, d)`` of maps ``(B, d, H, W)``: the positions of a cell are samples."""
    batch, dims, height, width = maps.shape
    cells = maps.view(batch, dims, height // cell, cell, width // cell, cell).permute(0, 3, 5, 2, 4, 1)
    return cells.reshape(-1, height // cell, width // cell, dims)
