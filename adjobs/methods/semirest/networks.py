"""The frozen features with position code, and the transformer that classifies residuals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adjobs.backbones import Backbone
from adjobs.methods.semirest.config import Config
from adjobs.nn.position import sincos_2d

STRIDE = 8  # pixels per token side
PATCH = 3  # tokens per side over which features are pooled


class PositionedFeatures(nn.Module):
    """Position-constrained features: hyper-columns of two backbone levels plus a position code.

    Hyper-columns are computed as in PatchCore: each 3 × 3 patch of a level is pooled to d_f values, coarser levels are upsampled,
    and both are pooled to d_f values together.
    """

    position: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone, config: Config, grid: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.dims = config.feature_dim
        self.register_buffer("position", config.position_weight * sincos_2d(grid, grid, config.feature_dim))
        self.register_buffer("scale", torch.ones(2))
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: the features are frozen."""
        return super().train(False)

    @torch.no_grad()
    def standardise(self, batches: Iterable[Tensor]) -> None:
        """Set the scale of each level to its standard deviation on these images, from the mean variance over the batches."""
        variances = [torch.stack([level.var() for level in self.backbone(images)[1:]]) for images in batches]
        self.scale.copy_(torch.stack(variances).mean(0).sqrt())

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """f⁺ of ``(B, 3, H, W)`` images in [0, 1]: ``(B, H / 8, W / 8, d_f)`` in half precision, as they are cached."""
        # Full precision even if training is not: cached features and those of simulated defects must not differ by rounding.
        with torch.autocast(images.device.type, enabled=False):
            maps = [level / scale for level, scale in zip(self.backbone(images)[1:], self.scale, strict=True)]
            size = maps[0].shape[-2:]
            columns = [
                F.interpolate(self._pool_patches(level), size=size, mode="bilinear", align_corners=False) for level in maps
            ]
            features = F.adaptive_avg_pool1d(torch.cat(columns, 1).flatten(2).transpose(1, 2), self.dims)
            return (features + self.position.flatten(1).T).view(len(images), *size, self.dims).half()

    def _pool_patches(self, level: Tensor) -> Tensor:
        """Pool the values of each 3 × 3 patch of a ``(B, C, h, w)`` map to d_f values: ``(B, d_f, h, w)``."""
        patches = F.unfold(level.contiguous(), PATCH, padding=PATCH // 2).transpose(1, 2)
        return F.adaptive_avg_pool1d(patches, self.dims).transpose(1, 2).reshape(len(level), self.dims, *level.shape[-2:])


class ResidualSwin(nn.Module):
    """One stage of a Swin transformer (Liu et al., ICCV 2021) on windows of residuals, with two logits per token."""

    def __init__(self, config: Config, window_side: int) -> None:
        super().__init__()
        # Slow to import, and not needed to list methods.
        from timm.models.swin_transformer import SwinTransformerBlock

        dims = config.embed_dim
        attention_side = config.attention_side(window_side)
        self.embed = nn.Linear(config.feature_dim, dims)
        self.embed_norm = nn.LayerNorm(dims)
        self.blocks = nn.Sequential(
            *(
                SwinTransformerBlock(
                    dims,
                    (window_side, window_side),
                    config.heads,
                    window_size=attention_side,
                    shift_size=i % 2 * (attention_side // 2),
                    mlp_ratio=config.mlp_ratio,
                )
                for i in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(dims)
        self.head = nn.Linear(dims, 2)

    def forward(self, residuals: Tensor) -> Tensor:
        """Logits ``(N, μ, μ, 2)``, normal and anomalous, of ``(N, μ, μ, d_f)`` unsigned residuals."""
        logits: Tensor = self.head(self.norm(self.blocks(self.embed_norm(self.embed(residuals)))))
        return logits
