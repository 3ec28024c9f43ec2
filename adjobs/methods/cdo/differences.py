"""The difference between expert and apprentice at a position, which is what distances other than eq. (10) are computed from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adjobs.methods.cdo.loss import at_least_float32
from adjobs.nn.place_stats import draw_channels

FeatureMaps = Sequence[Tensor]  # ``(B, C_l, H_l, W_l)`` of each level
NEIGHBOURHOOD = 3  # side of the squares of positions over which the second scale averages


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


NormalPairs = Iterable[tuple[Reference, FeatureMaps]]  # the expert's side and the apprentice's maps of normal images, in batches


class Differences(nn.Module, ABC):
    """How far the difference between expert and apprentice at a position is from those on normal images.

    The difference is ‖f_E‖ (f̂_E − f̂_A) = f_E − ‖f_E‖ f̂_A, concatenated over the levels. Unlike the discrepancy of eq. (3) it is
    scaled by the expert's activation, because directions of weak activations are mostly noise.

    Args:
        channels_by_level: number of channels C_l of each level.
        size: height and width of the map that all levels are resized to.
        max_channels: maximum number of channels; more are subsampled at random.
        seed: of the subsampling.
    """

    channels: Tensor

    def __init__(self, channels_by_level: Sequence[int], size: tuple[int, int], max_channels: int, seed: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("channels", draw_channels(sum(channels_by_level), max_channels, seed))

    @abstractmethod
    def fit(self, normal: NormalPairs, count: int) -> None:
        """Learn the differences on ``count`` normal images."""

    @abstractmethod
    def forward(self, expert: FeatureMaps, apprentice: FeatureMaps) -> Tensor:
        """Distances ``(B, *size)``, which hardly depend on the number of channels."""

    def reference(self, expert: FeatureMaps) -> Reference:
        """The expert's side of the differences."""
        precise = [at_least_float32(maps) for maps in expert]
        return Reference(self._joint(precise), tuple(maps.norm(dim=1, keepdim=True) for maps in precise))

    def between(self, reference: Reference, apprentice: FeatureMaps) -> Tensor:
        """Differences ``(B, d, *size)``."""
        precise = [at_least_float32(maps) for maps in apprentice]
        scaled = [length * F.normalize(maps, dim=1) for length, maps in zip(reference.lengths, precise, strict=True)]
        return reference.maps - self._joint(scaled)

    def _joint(self, by_level: FeatureMaps) -> Tensor:
        """The subsampled channels of all levels at the common size."""
        return torch.cat([self._resize(maps) for maps in by_level], 1)[:, self.channels]

    def _resize(self, maps: Tensor) -> Tensor:
        """Maps at the common size, averaged or interpolated."""
        if maps.shape[-1] >= self.size[-1]:
            return F.adaptive_avg_pool2d(maps, self.size)
        return F.interpolate(maps, self.size, mode="bilinear", align_corners=False)


def neighbourhood_means(differences: Tensor) -> Tensor:
    """Differences ``(B, d, H, W)`` averaged over the 3 × 3 neighbourhood of each position, less at the border."""
    return F.avg_pool2d(differences, NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False)
