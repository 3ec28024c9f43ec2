"""SLSG: stages, training step of the segmentation, and prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Self

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from adjobs.backbones import Backbone, create_backbone, create_embedder
from adjobs.errors import JobError
from adjobs.methods.contract import BatchComposition, Progress, Stage, TrainingImages
from adjobs.methods.method import Method
from adjobs.methods.slsg.config import INPAINTING_PARAMS, Config
from adjobs.methods.slsg.distance import EncoderDistance
from adjobs.methods.slsg.graph import SGBlock
from adjobs.methods.slsg.inpaint import REFERENCE_SIZE, Inpainter
from adjobs.methods.slsg.loss import anomaly_logit, anomaly_probability, focal_loss, l1_loss, masked_mean
from adjobs.methods.slsg.networks import STRIDE, AuxiliaryHead, BackboneEncoder, Encoder, SegmentationDecoder
from adjobs.nn.folding import folded
from adjobs.nn.norm import recompute_running_stats
from adjobs.nn.place_stats import PlaceMoments
from adjobs.synthesis.anomalies import SimulationConfig, simulate_anomalies
from adjobs.synthesis.foreground import level_foreground, otsu_foreground
from adjobs.synthesis.texture_bank import TextureBank
from adjobs.synthesis.transforms import draw_other_images, jitter_colour
from adjobs.types import Batch, Prediction, Simulated, StepLoss

IMAGENET_WIDTH = 64
STATS_BATCH = 16  # images per batch when statistics are computed
SCALE_BATCHES = 4  # at most, of normal images, spread over the training split, on which scales of distance and logit are computed
BETAS = (0.5, 0.999)  # of Adam, common for GANs (DCGAN); the paper does not say


class SLSG(Method):
    """The encoder with GPT-Net, which pretrains it, and SegNet on top of it: SG block, decoder and auxiliary head.

    Args:
        config: the parameters.
        image_size: S, height and width of the images in pixels.
        seed: of the drawn textures, and of the subsampling of channels.
        pretrained: the network that takes the encoder's place; None: the encoder is the paper's.
    """

    def __init__(self, config: Config, image_size: int, seed: int, pretrained: BackboneEncoder | None = None) -> None:
        super().__init__()
        self.config = config
        self.pretrained = pretrained
        self.inpainter = Inpainter(config) if pretrained is None else None
        self.graph = SGBlock(config, image_size // STRIDE)
        self.decoder = SegmentationDecoder(
            config.width, bottleneck_skip=config.bottleneck_skip, skip_attention=config.skip_attention
        )
        self.auxiliary = AuxiliaryHead(config.width)
        self.distance: EncoderDistance | None = None
        if config.is_combined:
            encoder = pretrained if self.inpainter is None else self.inpainter.encoder
            assert encoder is not None
            self.distance = EncoderDistance(
                encoder.channels[-2:], image_size, network_weight=config.network_weight, sigma=config.sigma, seed=seed
            )
        self._textures = TextureBank(config.textures, config.texture_count, image_size, seed)
        self._lean_encoder: tuple[nn.Module, ...] = ()  # in a tuple, so that it is no module of this one and not stored

    @property
    def encoder(self) -> Encoder | Backbone:
        """The network whose maps are segmented; GPT-Net's, or a pretrained one."""
        if self.pretrained is not None:
            return self.pretrained.backbone
        assert self.inpainter is not None
        return self.inpainter.encoder

    def train(self, mode: bool = True) -> Self:
        """Set the mode of SegNet; the encoder's batch normalisation stays in evaluation mode unless ``encoder_bn_train``."""
        super().train(mode)
        self.encoder.train(mode and self.config.encoder_bn_train and self.pretrained is None)
        return self

    # Training.

    def forward(self, batch: Batch) -> StepLoss:
        """Segmentation loss of one step, eq. (11)."""
        config = self.config
        simulated = self.simulate(batch)
        images = jitter_colour(simulated.images, batch.generator, config.jitter)
        logits, auxiliary_logits = self._logits(images, *self._lean_encoder)
        # Pixels with an unknown label are ignored.
        known = ~batch.unknown | simulated.masks
        terms = {
            "focal": focal_loss(logits, simulated.masks, config.gamma),
            "l1": l1_loss(logits, simulated.masks),
            "auxiliary": l1_loss(auxiliary_logits, simulated.masks),
        }
        means = {name: masked_mean(values, known) for name, values in terms.items()}
        loss = config.alpha_focal * means["focal"] + config.alpha_l1 * means["l1"] + config.alpha_aux * means["auxiliary"]
        logged = {name: mean.detach() for name, mean in means.items()}
        probability = anomaly_probability(logits.detach())
        logged["p_normal"] = masked_mean(probability, known & ~simulated.masks)
        logged["p_anomalous"] = masked_mean(probability, simulated.masks)
        return StepLoss(loss, logged)

    def _logits(self, images: Tensor, encoder: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """Logits of SegNet and of the auxiliary head, both ``(B, 2, H, W)`` float32; no gradient reaches the encoder.

        ``encoder`` stands in for the encoder.
        """
        with torch.no_grad():
            maps = self._encode(images, encoder)
        return self._segment(maps)

    def _segment(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """`_logits` of the encoder's maps."""
        if self.pretrained is not None:
            maps = self.pretrained.adapt(maps)
        x = self.graph(maps[-1])
        logits, auxiliary_logits = self.decoder(maps, x).float(), self.auxiliary(x).float()
        return (logits + auxiliary_logits if self.config.sum_logits else logits), auxiliary_logits

    def _encode(self, images: Tensor, encoder: nn.Module | None = None) -> list[Tensor]:
        network = encoder or self.encoder
        maps: list[Tensor] = network(images if self.pretrained is not None else self.encoder.normalise(images))
        return maps

    @torch.no_grad()
    def simulate(self, batch: Batch) -> Simulated:
        """Simulate anomalies (Sec. 3.2) on the images that ``batch.simulate`` selects; masks include labelled defects."""
        images = batch.images
        drawn = simulate_anomalies(
            images,
            batch.generator,
            self._simulation_config(),
            textures=self._textures.on(images.device),
            other_images=draw_other_images(images, batch.generator, batch.labels == 0),
            foreground=self._foreground(images),
        )
        selected = batch.simulate.view(-1, 1, 1, 1)
        masks = (drawn.masks & selected) | batch.masks
        assert drawn.logical is not None
        return Simulated(torch.where(selected, drawn.images, images), masks, drawn.logical & batch.simulate)

    def _simulation_config(self) -> SimulationConfig:
        config = self.config
        return SimulationConfig(
            logical_fraction=config.logical_fraction,
            shuffled_fraction=config.shuffled_fraction,
            shuffled_is_logical=config.shuffled_branch == "logical",
            mask_shape=config.mask_shape,
            structural_exponent=config.structural_exponent,
            logical_exponent=config.logical_exponent,
            structural_threshold=config.structural_threshold,
            logical_threshold=config.logical_threshold,
            structural_max_transparency=config.structural_max_transparency,
            logical_max_transparency=config.logical_max_transparency,
            max_rotation=config.max_rotation,
        )

    def _foreground(self, images: Tensor) -> Tensor | None:
        """Where anomalies may lie, ``(B, 1, H, W)`` bool; None: anywhere."""
        kind = self.config.foreground
        if kind == "everything":
            return None
        if kind == "auto":
            return otsu_foreground(images)
        return level_foreground(images, self.config.foreground_level, brighter=kind == "brighter")

    # Stages.

    def stages(self) -> Sequence[Stage]:
        """Inpainting, unless the encoder comes from elsewhere, then segmentation."""
        config = self.config
        segment = Stage(
            name="segment",
            module=self,
            optimizer=self._segmentation_optimizer,
            mix=BatchComposition(
                normal=config.batch_size - config.batch_size // 2,
                simulated=config.batch_size // 2,
                anomalous=config.labelled_per_batch,
            ),
            steps=config.steps,
            schedule=_cosine_decay,
            prepare=self._prepare_segmentation,
            on_stage_start=lambda data: self._fold_encoder(),
            fit_statistics=None if self.distance is None else partial(self._fit_distance, self.distance, kept=[]),
            size_params=("batch_size", "labelled_per_batch"),
            capturable=True,
        )
        if self.inpainter is None or config.pretrain != "gpt" or config.pretrain_from is not None:
            return [segment]
        inpaint = Stage(
            name="inpaint",
            module=self.inpainter,
            optimizer=self._inpainting_optimizer,
            mix=BatchComposition(normal=config.pretrain_batch_size),
            epochs=config.pretrain_epochs,
            prepare=self._prepare_inpainting,
            predicts=False,
            size_params=("pretrain_batch_size",),
            capturable=True,
            depends_on={name: getattr(config, name) for name in INPAINTING_PARAMS},
        )
        return [inpaint, segment]

    def _prepare_inpainting(self, data: TrainingImages) -> None:
        """Load the textures, although only the second stage uses them, so that errors surface before hours of training."""
        self._textures.on(self.encoder.mean.device)

    def _prepare_segmentation(self, data: TrainingImages) -> None:
        """Recompute the encoder's batch normalisation statistics from unmasked images; inpainting leaves those of masked ones.

        A pretrained network keeps its own.
        """
        encoder = self.encoder
        self._textures.on(encoder.mean.device)
        if isinstance(encoder, Encoder):
            batches = (encoder.normalise(batch.images.to(encoder.mean.device)) for batch in data.normal(STATS_BATCH))
            recompute_running_stats(encoder, batches)

    def _fold_encoder(self) -> None:
        """Let steps use a frozen encoder with fewer operations; not predictions, which a stored model repeats."""
        if self.pretrained is not None or not self.config.encoder_bn_train:
            self._lean_encoder = (folded(self.encoder),)

    @torch.no_grad()
    def _fit_distance(self, distance: EncoderDistance, data: TrainingImages, kept: list[PlaceMoments]) -> None:
        """Fit Gaussians to the encoder's features of normal images, and the scales of distance and logit.

        Args:
            distance: what is fitted.
            data: the training split.
            kept: the features' moments, which the first fit of a stage puts in, unless the encoder changes in training.
        """
        was_training = self.training
        self.eval()
        moments = kept[0] if kept else distance.stats.moments()
        if not kept:
            for batch in data.normal(STATS_BATCH):
                moments.add(distance.features(self._encode(batch.images)))
            distance.stats.fit(moments)
            if self.pretrained is not None or not self.config.encoder_bn_train:
                kept.append(moments)
        batches = math.ceil(data.n_normal / STATS_BATCH)
        distances, logits = [], []
        for batch in islice(data.normal(STATS_BATCH), 0, None, math.ceil(batches / SCALE_BATCHES)):
            maps = self._encode(batch.images)
            distances.append(distance.left_out(maps, moments))
            logits.append(anomaly_logit(self._segment(maps)[0]))
        distance.scales.fit(torch.cat(distances), torch.cat(logits))
        self.train(was_training)

    def _inpainting_optimizer(self) -> Optimizer:
        """Generator and discriminator, each with its own learning rate."""
        net, config = self.inpainter, self.config
        assert net is not None
        generator = [p for module in (net.encoder, net.decoder, net.coarse) for p in module.parameters()]
        groups = [
            {"params": generator, "lr": config.pretrain_lr},
            {"params": list(net.discriminator.parameters()), "lr": config.discriminator_lr},
        ]
        return Adam(groups, betas=BETAS)

    def _segmentation_optimizer(self) -> Optimizer:
        """SegNet without its encoder."""
        config = self.config
        modules: list[nn.Module] = [self.graph, self.decoder, self.auxiliary]
        if self.pretrained is not None:
            modules.append(self.pretrained.adapters)
        parameters = [p for module in modules for p in module.parameters()]
        return SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Load only GPT-Net, which includes the encoder, from another run's weights."""
        self.load_state_dict({**self.state_dict(), **{k: v for k, v in weights.items() if k.startswith("inpainter.")}})

    # Prediction.

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """P(anomalous) of each pixel, or the sum of distance and logit; the image score is the mean of the highest (Sec. 4.2).

        Extra scores beside the sum: ``network`` and ``distance``, either alone.
        """
        distance = self.distance
        if distance is None:
            probability = anomaly_probability(self._logits(images)[0])
            return Prediction(self._highest(probability), probability)
        with torch.autocast(images.device.type, enabled=False):  # the Gaussians were fitted to features in full precision
            maps = self._encode(images)
            distances = distance(maps)
        logits, _ = self._segment(maps)
        combined = distance.add(distances, anomaly_logit(logits))
        alone = {"network": anomaly_probability(logits), "distance": distances}
        return Prediction(self._highest(combined), combined, {name: self._highest(each) for name, each in alone.items()})

    def _highest(self, maps: Tensor) -> Tensor:
        """Mean of the highest pixels of ``(B, 1, S, S)``, ``(B,)``."""
        flat = maps.flatten(1)
        count = max(1, round(self.config.top_pixels * flat.shape[1] / REFERENCE_SIZE**2))
        return flat.topk(count, 1).values.mean(1)

    def fill(self, images: Tensor, generator: Generator) -> tuple[Tensor, ...]:
        """Masked and inpainted versions of ``(B, 3, H, W)`` images in [0, 1]; nothing if there is no inpainting stage."""
        return () if self.inpainter is None or self.config.pretrain != "gpt" else self.inpainter.fill(images, generator)


def _cosine_decay(progress: Progress) -> float:
    return (1 + math.cos(math.pi * progress.done)) / 2


def build(config: Config, *, image_size: int, seed: int) -> SLSG:
    """Create the method with random weights, or with a network pretrained on ImageNet as its encoder.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create_backbone`; or ImageNet's weights do not fit the width.
    """
    backbone = None
    if config.pretrain == "backbone":
        backbone = create_backbone(config.backbone, config.weights, stem=True, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pretrained = None if backbone is None else BackboneEncoder(backbone, config.width)
        method = SLSG(config, image_size, seed, pretrained)
    if config.pretrain == "imagenet":
        if config.width != IMAGENET_WIDTH:
            raise JobError(
                f"params.width: got {config.width}, pretrain imagenet requires {IMAGENET_WIDTH}; change one of the two"
            )
        assert method.inpainter is not None
        method.inpainter.encoder.load_matching(create_embedder("resnet18", config.weights, seed=seed).features.state_dict())
    return method
