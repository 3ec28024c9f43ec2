"""The features that DPAE reconstructs, and a cache of those of the training images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adjobs.backbones import Backbone, cache_key
from adjobs.data.cache.memmap import map_array, write_array
from adjobs.errors import StorageError
from adjobs.methods.contract import TrainingImages
from adjobs.nn.image_rows import ImageRows

log = logging.getLogger(__name__)

FEATURE_STRIDE = 8  # pixels between neighbouring positions of the features
STRIDE = 32  # of the last maps before the latent vector: five halvings of the image, or two of features of stride 8
STATS_BATCH = 16  # images per batch without gradients
MIN_DEVIATION = 0.05  # relative to the median channel; channels below are not scaled by their own deviation
FEATURES_VERSION = 1  # increase it when features are computed differently, to invalidate caches


class FeatureCache:
    """Features of the normal training images, in a memory map or on the device.

    Args:
        indices: ``(N,)`` indices of the images.
        maps: ``(N, views, C, H / 8, W / 8)`` half: views are the image itself, and flipped.
        device: of the steps.
    """

    def __init__(self, indices: np.ndarray, maps: np.ndarray, device: torch.device) -> None:
        self._maps = ImageRows(indices, maps, device)

    def get(self, indices: Tensor, flipped: Tensor | None) -> Tensor:
        """Features ``(B, C, H / 8, W / 8)``, half, of images by their indices; of the flipped image where ``flipped`` is True."""
        return self._maps.get(indices, torch.zeros_like(indices) if flipped is None else flipped.long())


class Features(nn.Module):
    """Features of a frozen network, standardised per channel once `fit` has seen the normal images.

    Args:
        backbone: the network.
        views: 2 if training flips images, else 1.
        max_bytes: largest size of the cache of training images; larger ones are not cached.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, backbone: Backbone, *, views: int, max_bytes: float) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.views, self.max_bytes = views, max_bytes
        self.cache: FeatureCache | None = None
        with torch.no_grad():
            self.channels = self._extract(torch.zeros(1, 3, STRIDE, STRIDE)).shape[1]
        self.register_buffer("mean", torch.zeros(1, self.channels, 1, 1))
        self.register_buffer("deviation", torch.ones(1, self.channels, 1, 1))

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)

    def _extract(self, images: Tensor) -> Tensor:
        """Strides 8 and 16 concatenated, averaged over 3 × 3 positions as in PatchCore; half, as in the cache."""
        with torch.autocast(images.device.type, enabled=False):
            fine, coarse = (F.avg_pool2d(level, 3, 1, 1, count_include_pad=False) for level in self.backbone(images)[1:])
            return torch.cat([fine, F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)], 1).half()

    def _standardise(self, maps: Tensor) -> Tensor:
        return (maps.to(self.mean.dtype) - self.mean) / self.deviation

    @torch.no_grad()
    def open_cache(self, data: TrainingImages) -> None:
        """Open the cache of all normal training images, filling it once per machine, unless it would exceed ``max_bytes``."""
        if self.cache is not None:
            return
        probe = self._extract(next(data.normal(1)).images)
        if data.n_normal * self.views * probe.nbytes > self.max_bytes:
            return

        def build(folder: Path) -> None:
            indices: list[int] = []

            def maps() -> Iterator[np.ndarray]:
                for batch in data.normal(STATS_BATCH):
                    indices.extend(batch.indices.tolist())
                    views = [batch.images, batch.images.flip(3)][: self.views]
                    yield torch.stack([self._extract(images) for images in views], 1).cpu().numpy()

            write_array(folder / "maps.npy", data.n_normal, maps())
            write_array(folder / "indices.npy", data.n_normal, iter([np.array(indices, dtype=np.int64)]))

        def read(folder: Path) -> FeatureCache | None:
            maps, indices = map_array(folder / "maps.npy"), map_array(folder / "indices.npy")
            if maps is None or indices is None or not len(maps) == len(indices) == data.n_normal:
                return None
            return FeatureCache(np.array(indices), maps, self.mean.device)

        key = {"version": FEATURES_VERSION, **cache_key(self.backbone), "views": self.views}
        try:
            self.cache = data.compute_once("features", key, read, build)
        except StorageError as error:
            log.warning("%s; until then features are recomputed in every step", error)

    @torch.no_grad()
    def fit(self, data: TrainingImages) -> None:
        """Take mean and standard deviation of every channel from the normal training images."""
        self.open_cache(data)
        total, squares, count = torch.zeros(self.channels), torch.zeros(self.channels), 0
        for batch in data.normal(STATS_BATCH):
            maps = (self._extract(batch.images) if self.cache is None else self.cache.get(batch.indices, None)).double()
            total, squares = total + maps.sum((0, 2, 3)).cpu(), squares + maps.square().sum((0, 2, 3)).cpu()
            count += maps[:, 0].numel()
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
        self.mean.copy_(mean.view(1, -1, 1, 1))
        # Channels that are nearly constant on normal images, such as a dead unit, must not be amplified where they are not.
        constant = deviation < MIN_DEVIATION * deviation.median()
        self.deviation.copy_(torch.where(constant, deviation.median().clamp_min(1e-3), deviation + 1e-3).view(1, -1, 1, 1))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features ``(B, C, H / 8, W / 8)`` of ``(B, 3, H, W)`` images in [0, 1]."""
        return self._standardise(self._extract(images))

    @torch.no_grad()
    def cached(self, indices: Tensor, flipped: Tensor | None) -> Tensor:
        """Cached features of training images by their indices, of the flipped image where ``flipped``, ``(B,)`` bool, is True."""
        assert self.cache is not None
        return self._standardise(self.cache.get(indices, flipped))
