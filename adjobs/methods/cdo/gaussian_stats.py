"""Mahalanobis distance of the networks' differences: PaDiM's Gaussian at every position, applied to CDO; not in the paper."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from adjobs.methods.cdo.differences import Differences, FeatureMaps, NormalPairs
from adjobs.nn.gaussian_stats import GaussianStats, Moments


class DifferenceStats(Differences):
    """Mahalanobis distance of the difference at a position from that on normal images: about 1 on these.

    Args:
        channels_by_level: number of channels C_l of each level.
        size: height and width of the map that all levels are resized to.
        grid: maximum number of Gaussians per side of the map; on larger maps, square cells of positions share one.
        max_channels: maximum number of channels; more are subsampled at random.
        shrinkage: fraction of the mean variance that is added to the variance of every direction.
        seed: of the subsampling.
    """

    def __init__(
        self,
        channels_by_level: Sequence[int],
        size: tuple[int, int],
        grid: int,
        max_channels: int,
        shrinkage: float,
        seed: int,
    ) -> None:
        super().__init__(channels_by_level, size, max_channels, seed)
        self.cell, self.shrinkage = cell_size(size, grid), shrinkage
        self.stats = GaussianStats(len(self.channels), [length // self.cell for length in size])

    def fit(self, normal: NormalPairs, count: int) -> None:
        """Take means and covariances."""
        moments = Moments()
        for reference, apprentice in normal:
            moments.add(self._vectors(self.between(reference, apprentice)))
        self.stats.fit(moments, self.shrinkage)

    def forward(self, expert: FeatureMaps, apprentice: FeatureMaps) -> Tensor:
        """Mahalanobis distances divided by √d, ``(B, *size)``."""
        vectors = self._vectors(self.between(self.reference(expert), apprentice))
        distances: Tensor = (self.stats(vectors) / vectors.shape[-1]).sqrt()
        rows, columns, cell = *distances.shape[1:], self.cell
        by_position = distances.view(-1, cell, cell, rows, columns).permute(0, 3, 1, 4, 2)
        return by_position.reshape(-1, rows * cell, columns * cell)

    def _vectors(self, differences: Tensor) -> Tensor:
        """Differences ``(B · cell², rows, columns, d)``: the positions of a cell are samples."""
        batch, dims, height, width = differences.shape
        cell = self.cell
        cells = differences.view(batch, dims, height // cell, cell, width // cell, cell).permute(0, 3, 5, 2, 4, 1)
        return cells.reshape(-1, height // cell, width // cell, dims)


def cell_size(size: Sequence[int], grid: int) -> int:
    """Side of the smallest square cells that tile a map of this size with at most ``grid`` cells per side.

    >>> cell_size((32, 32), 16), cell_size((28, 28), 16)
    (2, 2)
    """
    return next(side for side in range(1, max(size) + 1) if all(n % side == 0 and n // side <= grid for n in size))
