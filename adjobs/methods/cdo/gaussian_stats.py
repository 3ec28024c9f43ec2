"""Mahalanobis distance of the networks' differences: PaDiM's Gaussian at every position, applied to CDO; not in the paper."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from adjobs.methods.cdo.differences import Differences, FeatureMaps, NormalPairs
from adjobs.nn.place_stats import PlaceStats


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
        self.stats = PlaceStats(len(self.channels), size, grid, shrinkage)

    def fit(self, normal: NormalPairs, count: int) -> None:
        """Take means and covariances."""
        moments = self.stats.moments()
        for reference, apprentice in normal:
            moments.add(self.between(reference, apprentice))
        self.stats.fit(moments)

    def forward(self, expert: FeatureMaps, apprentice: FeatureMaps) -> Tensor:
        """Mahalanobis distances divided by √d, ``(B, *size)``."""
        distances: Tensor = self.stats(self.between(self.reference(expert), apprentice))
        return distances
