"""Mahalanobis distance of the networks' differences: PaDiM's Gaussian at every position, applied to CDO; not in the paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adjobs.methods.cdo.loss import at_least_float32
from adjobs.nn.gaussian_stats import GaussianStats, Moments

FeatureMaps = Sequence[Tensor]  # ``(B, C_l, H_l, W_l)`` of each level


class Reference(NamedTuple):
    """What differences need of the expert's maps; it does not change in training.

    Attributes:
        maps: the subsampled channels at the common size, ``(B, d, H, W)``.
        lengths: ‖f_E‖ at the size of each level, ``(B, 1, H_l, W_l)``.
    """

    maps: Tensor
    lengths: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return sum(tensor.nbytes for tensor in (self.maps, *self.lengths))


class DifferenceStats(nn.Module):
    """Mahalanobis distance of the difference between expert and apprentice at a position from that on normal images.

    The difference is ‖f_E‖ (f̂_E − f̂_A) = f_E − ‖f_E‖ f̂_A, concatenated over the levels. Unlike the discrepancy of eq. (3) it is
    scaled by the expert's activation, because directions of weak activations are mostly noise.

    Args:
        channels_by_level: number of channels C_l of each level.
        size: height and width of the map that all levels are resized to.
        grid: maximum number of Gaussians per side of the map; on larger maps, square cells of positions share one.
        max_channels: maximum number of channels; more are subsampled at random.
        seed: of the subsampling.
    """

    channels: Tensor

    def __init__(self, channels_by_level: Sequence[int], size: tuple[int, int], grid: int, max_channels: int, seed: int) -> None:
        super().__init__()
        self.size = size
        self.cell = cell_size(size, grid)
        permutation = torch.randperm(sum(channels_by_level), generator=torch.Generator().manual_seed(seed))
        self.register_buffer("channels", permutation[:max_channels].sort().values)
        self.stats = GaussianStats(len(self.channels), [length // self.cell for length in size])

    def fit(self, normal: Iterable[tuple[Reference, FeatureMaps]], shrinkage: float) -> None:
        """Take mean and covariance of the differences from the expert's `reference` and the apprentice's maps, in batches."""
        moments = Moments()
        for reference, apprentice in normal:
            moments.add(self._vectors(reference, apprentice))
        self.stats.fit(moments, shrinkage)

    def reference(self, expert: FeatureMaps) -> Reference:
        """The expert's side of the differences."""
        precise = [at_least_float32(maps) for maps in expert]
        return Reference(self._joint(precise), tuple(maps.norm(dim=1, keepdim=True) for maps in precise))

    def forward(self, expert: FeatureMaps, apprentice: FeatureMaps) -> Tensor:
        """Mahalanobis distances divided by √d, ``(B, *size)``: about 1 on normal images, whatever the number of channels d."""
        vectors = self._vectors(self.reference(expert), apprentice)
        distances: Tensor = (self.stats(vectors) / vectors.shape[-1]).sqrt()
        rows, columns, cell = *distances.shape[1:], self.cell
        by_position = distances.view(-1, cell, cell, rows, columns).permute(0, 3, 1, 4, 2)
        return by_position.reshape(-1, rows * cell, columns * cell)

    def _vectors(self, reference: Reference, apprentice: FeatureMaps) -> Tensor:
        """Differences at each position, ``(B · cell², rows, columns, d)``: the positions of a cell are samples."""
        precise = [at_least_float32(maps) for maps in apprentice]
        scaled = [length * F.normalize(maps, dim=1) for length, maps in zip(reference.lengths, precise, strict=True)]
        joint = reference.maps - self._joint(scaled)
        batch, dims, height, width = joint.shape
        cell = self.cell
        cells = joint.view(batch, dims, height // cell, cell, width // cell, cell).permute(0, 3, 5, 2, 4, 1)
        return cells.reshape(-1, height // cell, width // cell, dims)

    def _joint(self, by_level: FeatureMaps) -> Tensor:
        """The subsampled channels of all levels at the common size."""
        return torch.cat([self._resize(maps) for maps in by_level], 1)[:, self.channels]

    def _resize(self, maps: Tensor) -> Tensor:
        """Maps at the common size, averaged or interpolated."""
        if maps.shape[-1] >= self.size[-1]:
            return F.adaptive_avg_pool2d(maps, self.size)
        return F.interpolate(maps, self.size, mode="bilinear", align_corners=False)


def cell_size(size: Sequence[int], grid: int) -> int:
    """Side of the smallest square cells that tile a map of this size with at most ``grid`` cells per side.

    >>> cell_size((32, 32), 16), cell_size((28, 28), 16)
    (2, 2)
    """
    return next(side for side in range(1, max(size) + 1) if all(n % side == 0 and n // side <= grid for n in size))
