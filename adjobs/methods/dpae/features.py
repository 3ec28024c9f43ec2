"""The maps of a frozen network that DPAE reconstructs, and those of the training images, which are computed once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adjobs.backbones import Backbone, identity
from adjobs.data.cache.memmap import map_array, write_array
from adjobs.errors import StorageError
from adjobs.methods.contract import TrainingImages

STRIDE = 32  # of the last maps before the latent vector: five halvings of the picture, or two of maps of stride 8
MEASURE_BATCH = 16  # as many as evaluation takes at once
QUIET = 0.05  # channels whose deviation is below this share of the median one
RULE = 1  # how maps are made of images; to be raised where that changes


class FeatureCache:
    """Maps of the normal training images, in a memory map.

    Args:
        rows: ``(N,)``, which images they are of.
        maps: ``(N, views, C, H / 8, W / 8)`` half: as the image is, and mirrored.
    """

    def __init__(self, rows: np.ndarray, maps: np.ndarray) -> None:
        self.maps = maps
        self._at = {int(row): i for i, row in enumerate(rows)}

    def get(self, rows: Tensor, flipped: Tensor | None) -> Tensor:
        """``(B, C, H / 8, W / 8)`` half of these images, mirrored where it says so."""
        views = [0] * len(rows) if flipped is None else flipped.int().tolist()
        found = self.maps[[self._at[row] for row in rows.tolist()], views]
        return torch.from_numpy(found).to(rows.device)


class Features(nn.Module):
    """Maps of a frozen network, every channel brought to mean 0 and deviation 1 over the normal images once that is measured.

    Args:
        backbone: the network.
        views: 2 where training mirrors images, else 1.
        max_bytes: of training images' maps that may be kept; what needs more is computed in every step.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, backbone: Backbone, *, views: int, max_bytes: float) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.views, self.max_bytes = views, max_bytes
        self.cache: FeatureCache | None = None
        with torch.no_grad():
            self.channels = self._maps(torch.zeros(1, 3, STRIDE, STRIDE)).shape[1]
        self.register_buffer("mean", torch.zeros(1, self.channels, 1, 1))
        self.register_buffer("deviation", torch.ones(1, self.channels, 1, 1))

    def train(self, mode: bool = True) -> Self:
        """Always evaluates."""
        return super().train(False)

    def _maps(self, images: Tensor) -> Tensor:
        """Strides 8 and 16 side by side, each smoothed over 3 × 3 positions, as PatchCore takes them; half, as they are kept."""
        with torch.autocast(images.device.type, enabled=False):
            fine, coarse = (F.avg_pool2d(level, 3, 1, 1, count_include_pad=False) for level in self.backbone(images)[1:])
            return torch.cat([fine, F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)], 1).half()

    def _standard(self, maps: Tensor) -> Tensor:
        return (maps.to(self.mean.dtype) - self.mean) / self.deviation

    @torch.no_grad()
    def keep(self, data: TrainingImages) -> None:
        """Open the maps of all normal training images, computed once on this machine, unless they are too large for it."""
        if self.cache is not None:
            return
        one = self._maps(next(data.normal(1)).images)
        if data.n_normal * self.views * one.nbytes > self.max_bytes:
            return

        def build(folder: Path) -> None:
            rows: list[int] = []

            def maps() -> Iterator[np.ndarray]:
                for batch in data.normal(MEASURE_BATCH):
                    rows.extend(batch.indices.tolist())
                    views = [batch.images, batch.images.flip(3)][: self.views]
                    yield torch.stack([self._maps(images) for images in views], 1).cpu().numpy()

            write_array(folder / "maps.npy", data.n_normal, maps())
            write_array(folder / "rows.npy", data.n_normal, iter([np.array(rows, dtype=np.int64)]))

        def read(folder: Path) -> FeatureCache | None:
            maps, rows = map_array(folder / "maps.npy"), map_array(folder / "rows.npy")
            if maps is None or rows is None or not len(maps) == len(rows) == data.n_normal:
                return None
            return FeatureCache(rows, maps)

        key = {"rule": RULE, **identity(self.backbone), "views": self.views}
        try:
            self.cache = data.compute_once("maps", key, read, build)
        except StorageError as error:
            print(f"{error}; until then features are computed in every step", file=sys.stderr)

    @torch.no_grad()
    def measure(self, data: TrainingImages) -> None:
        """Take mean and deviation of every channel over the normal training images."""
        self.keep(data)
        total, squares, count = torch.zeros(self.channels), torch.zeros(self.channels), 0
        for batch in data.normal(MEASURE_BATCH):
            maps = (self._maps(batch.images) if self.cache is None else self.cache.get(batch.indices, None)).double()
            total, squares = total + maps.sum((0, 2, 3)).cpu(), squares + maps.square().sum((0, 2, 3)).cpu()
            count += maps[:, 0].numel()
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
        self.mean.copy_(mean.view(1, -1, 1, 1))
        # What hardly moves on good pictures, such as a unit that never fires, is not blown up where it does.
        quiet = deviation < QUIET * deviation.median()
        self.deviation.copy_(torch.where(quiet, deviation.median().clamp_min(1e-3), deviation + 1e-3).view(1, -1, 1, 1))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H / 8, W / 8)`` for ``(B, 3, H, W)`` images in [0, 1]."""
        return self._standard(self._maps(images))

    @torch.no_grad()
    def of(self, rows: Tensor, flipped: Tensor | None) -> Tensor:
        """The same for training images, by their rows, mirrored where ``(B,)`` ``flipped`` says so; of what is kept."""
        assert self.cache is not None
        return self._standard(self.cache.get(rows, flipped))
