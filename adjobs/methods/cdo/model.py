"""CDO's networks, training step and score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from adjobs.backbones import Backbone, create
from adjobs.methods.cdo.config import Config
from adjobs.methods.cdo.loss import cdo_loss, discrepancies
from adjobs.methods.contract import Mix, Stage
from adjobs.nn.blur import gaussian_blur
from adjobs.nn.world import global_sum
from adjobs.synthesis.rectangles import perturb
from adjobs.types import Batch, Prediction, Simulated, StepLoss


class CDO(nn.Module):
    """Frozen expert, trained apprentice of the same architecture, and the discrepancy between them."""

    def __init__(self, expert: Backbone, apprentice: Backbone, config: Config) -> None:
        super().__init__()
        self.expert = expert.requires_grad_(False).eval()
        self.apprentice = apprentice
        self.config = config

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the apprentice; the expert always evaluates."""
        super().train(mode)
        self.expert.eval()
        return self

    def forward(self, batch: Batch) -> StepLoss:
        """One step's loss, eq. (8), summed over the hierarchies."""
        images, masks, _ = self.simulate(batch)
        d = self.discrepancies(images)
        synthetic = F.interpolate(masks.float(), d.shape[-2:], mode="nearest")[:, 0].bool()
        # Where nobody knows whether a pixel is good, it says nothing.
        unknown = F.adaptive_max_pool2d(batch.unknown.float(), d.shape[-2:])[:, 0].bool()
        normal = ~synthetic & ~unknown
        gamma = self.config.gamma if self.config.oom else 0.0
        by_level = cdo_loss(d, normal, synthetic & self.config.mom, gamma, total=global_sum)
        loss = by_level.sum()
        if self.config.loss_times_batch:
            loss = loss * self.config.batch_size
        parts = {f"level_{i + 1}": value.detach() for i, value in enumerate(by_level)}
        parts["d_normal"], parts["d_synthetic"] = (_mean(d.detach().sum(0), where) for where in (normal, synthetic))
        return StepLoss(loss, parts)

    def discrepancies(self, images: Tensor) -> Tensor:
        """Distances ``(L, B, h, w)`` of the two networks on ``(B, 3, H, W)`` images, one map for each hierarchy used."""
        used = slice(self.config.first - 1, None)
        with torch.no_grad():
            expert = self.expert(images)
        return discrepancies(expert[used], self.apprentice(images)[used], self.config.dist)

    def simulate(self, batch: Batch) -> Simulated:
        """Images with rectangles on those meant to be simulated, and all defect pixels, simulated and labelled."""
        config = self.config
        drawn = perturb(
            batch.images,
            batch.generator,
            most=config.rectangles,
            fill=config.fill,
            skip_background=config.skip_background,
        )
        simulate = batch.simulate.view(-1, 1, 1, 1)
        images = torch.where(simulate, drawn.images, batch.images)
        return Simulated(images, (drawn.masks & simulate) | batch.masks)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """Discrepancies summed over the hierarchies and smoothed, eq. (10); an image scores the top of its map."""
        d = self.discrepancies(images)
        size = images.shape[-2:]
        maps = F.interpolate(d.transpose(0, 1), size, mode="bilinear", align_corners=False).sum(1, keepdim=True)
        smooth = gaussian_blur(maps, self.config.sigma * min(size) / 256)
        largest = max(1, round(self.config.top * smooth[0].numel()))
        return Prediction(smooth.flatten(1).topk(largest).values.mean(1), smooth)

    def stages(self) -> Sequence[Stage]:
        """One stage: AdamW on the apprentice, learning rate falling by a constant factor per epoch."""
        config = self.config
        labelled = config.batch_size // 4 if config.use_labelled_masks else 0

        def optimizer() -> AdamW:
            trainable = [p for p in self.apprentice.parameters() if p.requires_grad]
            return AdamW(trainable, lr=config.lr, weight_decay=config.weight_decay)

        return [
            Stage(
                name="distil",
                module=self,
                optimizer=optimizer,
                mix=Mix(simulated=config.batch_size - labelled, anomalous=labelled),
                epochs=config.epochs,
                schedule=lambda progress: config.lr_decay**progress.epoch,
            )
        ]


def _mean(d: Tensor, where: Tensor) -> Tensor:
    """Mean over this worker's positions ``where``, for the log; 0 where there are none."""
    return (d * where).sum() / where.sum().clamp_min(1)


def build(config: Config, *, image_size: int, seed: int) -> CDO:
    """Expert with its pretrained weights, apprentice with random ones or the same.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create`.
    """
    expert = create(config.backbone, config.weights, levels=config.levels, seed=seed)
    start = "none" if config.apprentice == "random" else config.weights
    return CDO(expert, create(config.backbone, start, levels=config.levels, seed=seed), config)
