"""The frozen features with their position, and the transformer that tells defects by residuals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adjobs.backbones import Backbone
from adjobs.methods.semirest.config import Config
from adjobs.nn.position import sincos_2d

STRIDE = 8  # pixels along a token's side
PATCH = 3  # tokens that are smoothed over


class PositionedFeatures(nn.Module):
    """Hyper-columns of two hierarchies, to which the code of their position is added (position-constrained features).

    They are made as PatchCore makes its own: each 3 × 3 patch of a map is pooled to d_f values, coarser maps are stretched, and
    both are pooled to d_f values together.
    """

    position: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone, config: Config, grid: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.dims = config.features
        self.register_buffer("position", config.position * sincos_2d(grid, grid, config.features))
        self.register_buffer("scale", torch.ones(2))
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Frozen: always as in inference."""
        return super().train(False)

    @torch.no_grad()
    def standardise(self, batches: Iterable[Tensor]) -> None:
        """From now on the deviation of both hierarchies on these images is their unit, as a mean over the batches."""
        found = [torch.stack([level.var() for level in self.backbone(images)[1:]]) for images in batches]
        self.scale.copy_(torch.stack(found).mean(0).sqrt())

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """f⁺ of ``(B, 3, H, W)`` images in [0, 1]: ``(B, H / 8, W / 8, d_f)`` in half precision, as they are kept."""
        # In full precision even where training is not: kept features and those of simulated defects must not differ by that.
        with torch.autocast(images.device.type, enabled=False):
            maps = [level / scale for level, scale in zip(self.backbone(images)[1:], self.scale, strict=True)]
            size = maps[0].shape[-2:]
            columns = [F.interpolate(self._patches(level), size=size, mode="bilinear", align_corners=False) for level in maps]
            found = F.adaptive_avg_pool1d(torch.cat(columns, 1).flatten(2).transpose(1, 2), self.dims)
            return (found + self.position.flatten(1).T).view(len(images), *size, self.dims).half()

    def _patches(self, level: Tensor) -> Tensor:
        """Patches of a ``(B, C, h, w)`` map, all their values pooled to ``(B, d_f, h, w)``."""
        patches = F.unfold(level.contiguous(), PATCH, padding=PATCH // 2).transpose(1, 2)
        return F.adaptive_avg_pool1d(patches, self.dims).transpose(1, 2).reshape(len(level), self.dims, *level.shape[-2:])


class ResidualSwin(nn.Module):
    """One stage of a Swin transformer on windows of residuals (Liu et al., ICCV 2021), with two answers for each token."""

    def __init__(self, config: Config, side: int) -> None:
        super().__init__()
        # Heavy, and not needed to list methods.
        from timm.models.swin_transformer import SwinTransformerBlock

        width = config.embed
        window = config.reach(side)
        self.embed = nn.Linear(config.features, width)
        self.embed_norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(
            *(
                SwinTransformerBlock(
                    width,
                    (side, side),
                    config.heads,
                    window_size=window,
                    shift_size=i % 2 * (window // 2),
                    mlp_ratio=config.mlp_ratio,
                )
                for i in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2)

    def forward(self, residuals: Tensor) -> Tensor:
        """Logits ``(N, μ, μ, 2)``, normal and anomalous, of ``(N, μ, μ, d_f)`` residuals without sign."""
        found: Tensor = self.head(self.norm(self.blocks(self.embed_norm(self.embed(residuals)))))
        return found
