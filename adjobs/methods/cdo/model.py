"""CDO: training step, stage, and prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from adjobs.backbones import Backbone, create_backbone
from adjobs.errors import JobError
from adjobs.methods.cdo.config import Config
from adjobs.methods.cdo.difference_bank import DifferenceBank
from adjobs.methods.cdo.differences import Differences, Reference
from adjobs.methods.cdo.gaussian_stats import DifferenceStats
from adjobs.methods.cdo.loss import cdo_loss, discrepancies
from adjobs.methods.contract import BatchComposition, Stage, TrainingImages
from adjobs.methods.method import Method
from adjobs.nn.blur import gaussian_blur
from adjobs.nn.distributed import global_sum
from adjobs.nn.folding import folded
from adjobs.nn.place_stats import cell_size
from adjobs.synthesis.rectangles import add_noise_rectangles
from adjobs.types import Batch, Prediction, Simulated, StepLoss

STATS_BATCH = 16  # images per batch when differences are learned
MIN_STRIDE = 8  # pixels between neighbouring positions of differences
MAX_KEPT_BYTES = 1 << 30  # of the expert's side of the differences on training images, between fits; 0.8 MiB an image of 256 px
MAX_GIB = 0.5  # of covariances; every checkpoint and model stores them, and fitting takes about seven times as much


class CDO(Method):
    """A frozen expert, a trained apprentice of the same architecture, and the discrepancy between them.

    Args:
        expert: the frozen network.
        apprentice: the trained network.
        config: the parameters.
        differences: computes distances from the differences on normal images; None: the discrepancy is the distance.
    """

    def __init__(self, expert: Backbone, apprentice: Backbone, config: Config, differences: Differences | None = None) -> None:
        super().__init__()
        self.expert = expert.requires_grad_(False).eval()
        self.apprentice = apprentice
        self.config = config
        self.differences = differences
        self._lean_expert: tuple[nn.Module, ...] = ()  # in a tuple, so that it is no module of this one and not stored

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the apprentice; the expert stays in evaluation mode."""
        super().train(mode)
        self.expert.eval()
        return self

    def forward(self, batch: Batch) -> StepLoss:
        """Loss of one step, eq. (8), summed over the feature levels."""
        images, masks, _ = self.simulate(batch)
        d = discrepancies(*self.features(images, *self._lean_expert), self.config.discrepancy)
        # Rectangles are larger than a position (published code); a labelled scratch may be one pixel wide.
        synthetic = F.interpolate(masks.float(), d.shape[-2:], mode="nearest")[:, 0].bool() | _any_pixel(batch.masks, d)
        # Positions that may or may not be defective contribute nothing.
        unknown = _any_pixel(batch.unknown, d)
        normal = ~synthetic & ~unknown
        gamma = self.config.gamma if self.config.oom else 0.0
        by_level = cdo_loss(d, normal, synthetic & self.config.mom, gamma, total=global_sum)
        loss = by_level.sum()
        if self.config.loss_times_batch:
            loss = loss * self.config.batch_size
        terms = {f"level_{i + 1}": value.detach() for i, value in enumerate(by_level)}
        terms["d_normal"], terms["d_synthetic"] = (_masked_mean(d.detach().sum(0), mask) for mask in (normal, synthetic))
        return StepLoss(loss, terms)

    def discrepancies(self, images: Tensor) -> Tensor:
        """Discrepancies ``(L, B, h, w)`` of the two networks on ``(B, 3, H, W)`` images in [0, 1], for each feature level."""
        return discrepancies(*self.features(images), self.config.discrepancy)

    def features(self, images: Tensor, expert: nn.Module | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """The expert's and the apprentice's feature maps of the levels used; ``expert`` stands in for the expert."""
        used = slice(self.config.first_level - 1, None)
        with torch.no_grad():
            maps = (expert or self.expert)(images)
        return maps[used], self.apprentice(images)[used]

    def simulate(self, batch: Batch) -> Simulated:
        """Put noise rectangles on the images marked for simulation; masks also hold the labelled defects."""
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
        """Smoothed distances, or discrepancies summed over levels, eq. (10); the score is the mean of their ``top_fraction``."""
        size = images.shape[-2:]
        if self.differences is None:
            distances = self.discrepancies(images).sum(0)
        else:
            distances = self.differences(*self._precise_features(images))
        maps = F.interpolate(distances[:, None], size, mode="bilinear", align_corners=False)
        smooth = gaussian_blur(maps, self.config.sigma * min(size) / 256)
        count = max(1, round(self.config.top_fraction * smooth[0].numel()))
        return Prediction(smooth.flatten(1).topk(count).values.mean(1), smooth)

    def _precise_features(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Both networks' maps without autocast: differences are small beside them, and variances may be, too."""
        with torch.autocast(images.device.type, enabled=False):
            return self.features(images.float())

    def _fold_expert(self) -> None:
        """Let steps use an expert with fewer operations; not predictions, which a stored model repeats."""
        self._lean_expert = (folded(self.expert),)

    @torch.no_grad()
    def _fit_differences(self, data: TrainingImages, kept: list[Reference]) -> None:
        """Learn the differences on the normal training images.

        Args:
            data: the training split.
            kept: the expert's side of the first batches; the first fit fills the list, up to ``MAX_KEPT_BYTES``.
        """
        assert self.differences is not None
        was_training = self.training
        self.eval()
        self.differences.fit(self._normal_pairs(self.differences, data, kept), data.n_normal)
        self.train(was_training)

    def _normal_pairs(
        self, differences: Differences, data: TrainingImages, kept: list[Reference]
    ) -> Iterator[tuple[Reference, list[Tensor]]]:
        """The expert's and the apprentice's side of the differences on the normal images, in batches."""
        used = slice(self.config.first_level - 1, None)
        for number, batch in enumerate(data.normal(STATS_BATCH)):
            images = batch.images.float()
            with torch.autocast(images.device.type, enabled=False):
                reference = kept[number] if number < len(kept) else differences.reference(self.expert(images)[used])
                apprentice = self.apprentice(images)[used]
            if number == len(kept) and sum(one.nbytes for one in (*kept, reference)) <= MAX_KEPT_BYTES:
                kept.append(reference)
            yield reference, apprentice

    def stages(self) -> Sequence[Stage]:
        """One stage: AdamW on the apprentice, with a learning rate that decays exponentially per epoch."""
        config = self.config
        labelled = config.batch_size // 4 if config.use_labelled_masks else 0
        kept: list[Reference] = []  # as long as the stage

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
                fit_statistics=None if self.differences is None else lambda data: self._fit_differences(data, kept),
                on_stage_start=lambda data: self._fold_expert(),
                capturable=True,
            )
        ]


def _any_pixel(pixels: Tensor, d: Tensor) -> Tensor:
    """Positions of ``d`` of which at least one pixel is True, ``(B, h, w)`` bool, of ``(B, 1, H, W)`` bool."""
    return F.adaptive_max_pool2d(pixels.float(), d.shape[-2:])[:, 0].bool()


def _masked_mean(d: Tensor, mask: Tensor) -> Tensor:
    """Mean over this worker's positions in the mask, for the log; 0 if there are none."""
    return (d * mask).sum() / mask.sum().clamp_min(1)


def expert_seed(seed: int) -> int:
    """Seed of an expert without pretrained weights: with the apprentice's, both networks would be equal and all scores 0."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])


def build(config: Config, *, image_size: int, seed: int) -> CDO:
    """Build the expert with its pretrained weights, and the apprentice.

    ``distance: auto``, which a job resolves before, is ``mahalanobis`` here: its value where nothing can be measured.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create_backbone`; covariances that take too much memory.
    """
    expert = create_backbone(config.backbone, config.weights, levels=config.last_level, seed=expert_seed(seed))
    initial_weights = "none" if config.apprentice == "random" else config.weights
    apprentice = create_backbone(config.backbone, initial_weights, levels=config.last_level, seed=seed)
    if config.distance == "euclidean":
        return CDO(expert, apprentice, config)
    return CDO(expert, apprentice, config, _build_differences(expert, config, image_size, seed))


def _build_differences(expert: Backbone, config: Config, image_size: int, seed: int) -> Differences:
    """What computes distances, of the shape that the expert's maps need; refuses more Gaussians than ``MAX_GIB`` holds."""
    with torch.inference_mode():
        maps = expert.eval()(torch.zeros(1, 3, image_size, image_size))[config.first_level - 1 :]
    height, width = (min(length, -(-image_size // MIN_STRIDE)) for length in maps[0].shape[2:])
    size = (height, width)
    channels_by_level = [level.shape[1] for level in maps]
    if config.distance == "nearest":
        return DifferenceBank(channels_by_level, size, config.max_channels, config.coreset_ratio, seed)
    positions = prod(size) // cell_size(size, config.grid) ** 2
    channels = min(config.max_channels, sum(channels_by_level))
    gib = 4 * positions * channels**2 / 2**30
    if gib > MAX_GIB:
        raise JobError(
            f"params.distance: mahalanobis would take {gib:.1f} GiB for {positions} positions with {channels} channels; allowed: "
            f"{MAX_GIB:g} GiB; lower params.grid ({config.grid}) or params.max_channels ({config.max_channels}), or set "
            "params.distance=nearest"
        )
    return DifferenceStats(channels_by_level, size, config.grid, channels, config.shrinkage, seed)
