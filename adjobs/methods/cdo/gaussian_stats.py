"""Mahalanobis distance of the networks' differences: PaDiM's Gaussian at every position, applied to CDO; not in the paper."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from adjobs.methods.cdo.differences import Differences, FeatureMaps, NormalPairs, neighbourhood_means
from adjobs.nn.place_stats import PlaceStats


class DifferenceStats(Differences):
    """Mahalanobis distance of the difference at a position from that on normal images: about 1 on these.

    It is the mean of two scales, in the same unit: a position by itself, which outlines defects, and the mean of its 3 × 3
    neighbourhood, which finds faint ones.

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
        self.single, self.neighbourhood = (PlaceStats(len(self.channels), size, grid, shrinkage) for _ in range(2))

    def fit(self, normal: NormalPairs, count: int) -> None:
        """Take means and covariances."""
        single, neighbourhood = self.single.moments(), self.neighbourhood.moments()
        for reference, apprentice in normal:
            differences = self.between(reference, apprentice)
            single.add(differences)
            neighbourhood.add(neighbourhood_means(differences))
        self.single.fit(single)
        self.neighbourhood.fit(neighbourhood)

    def forward(self, expert: FeatureMaps, apprentice: FeatureMaps) -> Tensor:
        """Mahalanobis distances divided by √d, the mean of both scales, ``(B, *size)``."""
        differences = self.between(self.reference(expert), apprentice)
        distances: Tensor = (self.single(differences) + self.neighbourhood(neighbourhood_means(differences))) / 2
        return distances
