"""CDO's networks, training step and score."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from adjobs.backbones import Backbone, create
from adjobs.errors import JobError
from adjobs.methods.cdo.config import Config
from adjobs.methods.cdo.loss import cdo_loss, discrepancies
from adjobs.methods.cdo.spread import JointSpread, shared
from adjobs.methods.contract import BatchComposition, Stage, TrainingImages
from adjobs.nn.blur import gaussian_blur
from adjobs.nn.distributed import global_sum
from adjobs.synthesis.rectangles import add_noise_rectangles
from adjobs.types import Batch, Prediction, Simulated, StepLoss

MEASURE_BATCH = 16  # images whose differences are counted in at once
LEAST_STRIDE = 8  # pixels from one place at which the spread is measured to the next
MOST_GIB = 0.5  # of a spread; it is in every checkpoint and model, and takes some seven times as much while it is measured


class CDO(nn.Module):
    """Frozen expert, trained apprentice of the same architecture, and the discrepancy between them.

    ``spread`` is given where distances are counted in units of it.
    """

    def __init__(self, expert: Backbone, apprentice: Backbone, config: Config, spread: JointSpread | None = None) -> None:
        super().__init__()
        self.expert = expert.requires_grad_(False).eval()
        self.apprentice = apprentice
        self.config = config
        self.spread = spread

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
        return discrepancies(*self.features(images), self.config.dist)

    def features(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The expert's and the apprentice's maps of the hierarchies used."""
        used = slice(self.config.first - 1, None)
        with torch.no_grad():
            expert = self.expert(images)
        return expert[used], self.apprentice(images)[used]

    def simulate(self, batch: Batch) -> Simulated:
        """Images with rectangles on those meant to be simulated, and all defect pixels, simulated and labelled."""
        config = self.config
        drawn = add_noise_rectangles(
            batch.images,
            batch.generator,
            max_count=config.rectangles,
            fill=config.fill,
            skip_background=config.skip_background,
        )
        simulate = batch.simulate.view(-1, 1, 1, 1)
        images = torch.where(simulate, drawn.images, batch.images)
        return Simulated(images, (drawn.masks & simulate) | batch.masks)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """Discrepancies summed, eq. (10), or distances in units of spread, smoothed; an image scores its map's top."""
        size = images.shape[-2:]
        found = self.discrepancies(images).sum(0) if self.spread is None else self.spread(*self._precise(images))
        maps = F.interpolate(found[:, None], size, mode="bilinear", align_corners=False)
        smooth = gaussian_blur(maps, self.config.sigma * min(size) / 256)
        largest = max(1, round(self.config.top * smooth[0].numel()))
        return Prediction(smooth.flatten(1).topk(largest).values.mean(1), smooth)

    def _precise(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Both networks' maps, never in half precision, since small spreads are small units."""
        with torch.autocast(images.device.type, enabled=False):
            return self.features(images.float())

    @torch.no_grad()
    def _measure(self, data: TrainingImages) -> None:
        """Spread of what the networks differ by over the normal training images."""
        assert self.spread is not None
        was_training = self.training
        self.eval()
        pairs = (self._precise(batch.images) for batch in data.normal(MEASURE_BATCH))
        self.spread.measure(pairs, self.config.shrinkage)
        self.train(was_training)

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
                mix=BatchComposition(simulated=config.batch_size - labelled, anomalous=labelled),
                epochs=config.epochs,
                schedule=lambda progress: config.lr_decay**progress.epoch,
                fit_statistics=self._measure if self.spread is not None else None,
            )
        ]


def _mean(d: Tensor, where: Tensor) -> Tensor:
    """Mean over this worker's positions ``where``, for the log; 0 where there are none."""
    return (d * where).sum() / where.sum().clamp_min(1)


def build(config: Config, *, image_size: int, seed: int) -> CDO:
    """Expert with its pretrained weights, apprentice with random ones or the same.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create`; a spread that takes too much memory.
    """
    expert = create(config.backbone, config.weights, levels=config.levels, seed=seed)
    start = "none" if config.apprentice == "random" else config.weights
    apprentice = create(config.backbone, start, levels=config.levels, seed=seed)
    if config.distance == "euclidean":
        return CDO(expert, apprentice, config)
    return CDO(expert, apprentice, config, _spread(expert, config, image_size, seed))


def _spread(expert: Backbone, config: Config, image_size: int, seed: int) -> JointSpread:
    """Room for the spread of what the networks differ by, if there is enough for it."""
    with torch.inference_mode():
        shapes = [maps.shape[1:] for maps in expert.eval()(torch.zeros(1, 3, image_size, image_size))[config.first - 1 :]]
    height, width = (min(length, -(-image_size // LEAST_STRIDE)) for length in shapes[0][1:])
    size = (height, width)
    widths = [shape[0] for shape in shapes]
    places = prod(size) // shared(size, config.grid) ** 2
    dims = min(config.dims, sum(widths))
    gib = 4 * places * dims**2 / 2**30
    if gib > MOST_GIB:
        raise JobError(
            f"params.distance: got mahalanobis, which takes {gib:.1f} GiB for {places} places of {dims} channels, allowed are "
            f"{MOST_GIB:g} GiB; lower params.grid ({config.grid}) or params.dims ({config.dims}), or set distance: euclidean"
        )
    return JointSpread(widths, size, config.grid, dims, seed)
