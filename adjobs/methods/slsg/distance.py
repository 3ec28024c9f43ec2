"""The distance of the encoder's features from normal ones, and its sum with the network's logit; not in the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adjobs.methods.slsg.inpaint import REFERENCE_SIZE
from adjobs.nn.blur import gaussian_blur
from adjobs.nn.normal_scales import NormalScales
from adjobs.nn.place_stats import PlaceMoments, PlaceStats, draw_channels

STRIDE = 8  # of the features' map, to which the one of stride 16 is enlarged
GRID = 16  # most Gaussians per side of the map
MAX_CHANNELS = 200  # more are subsampled, so that Gaussians take 41 MB at most
SHRINKAGE = 0.01  # CDO's and PaDiM's


class EncoderDistance(nn.Module):
    """How unusual the encoder's features are at their place, and that plus the network's logit.

    Args:
        channels: of the encoder's maps of strides 8 and 16.
        image_size: S, height and width of the images in pixels.
        network_weight: of the logit in the sum.
        sigma: smoothing of the distances, in pixels at 256 px.
        seed: of the subsampling of channels.
    """

    channels: Tensor

    def __init__(self, channels: Sequence[int], image_size: int, *, network_weight: float, sigma: float, seed: int) -> None:
        super().__init__()
        self.image_size, self.network_weight = image_size, network_weight
        self.sigma = sigma * image_size / REFERENCE_SIZE
        self.register_buffer("channels", draw_channels(sum(channels), MAX_CHANNELS, seed))
        self.stats = PlaceStats(len(self.channels), (image_size // STRIDE,) * 2, GRID, SHRINKAGE)
        self.scales = NormalScales(2)  # of distance and logit, on pixels of normal images

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        """The encoder's maps of strides 8 and 16 as one, ``(B, d, S / 8, S / 8)``, in full precision."""
        fine, coarse = (level.to(self.scales.mean.dtype) for level in maps[-2:])
        joined = torch.cat([fine, F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)], 1)
        return joined[:, self.channels]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Mahalanobis distance of the encoder's features at their place, divided by √d, ``(B, 1, S, S)``."""
        return self._enlarge(self.stats(self.features(maps)))

    def left_out(self, maps: Sequence[Tensor], moments: PlaceMoments) -> Tensor:
        """The same of images that are among the ``moments``, as if they were not."""
        return self._enlarge(self.stats.left_out(self.features(maps), moments))

    def add(self, distances: Tensor, logits: Tensor) -> Tensor:
        """Weighted sum of distances and logits ``(B, 1, S, S)``, each in deviations from the mean of normal pixels."""
        distance, logit = self.scales(distances, logits)
        combined: Tensor = distance + self.network_weight * logit
        return combined

    def _enlarge(self, distances: Tensor) -> Tensor:
        side = self.image_size
        return gaussian_blur(F.interpolate(distances[:, None], (side, side), mode="bilinear", align_corners=False), self.sigma)
