"""SLSG: stages, training step of the segmentation, and score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from adjobs.backbones import create_embedder
from adjobs.errors import JobError
from adjobs.methods.contract import BatchComposition, Progress, Stage, TrainingImages
from adjobs.methods.slsg.config import INPAINTING, Config
from adjobs.methods.slsg.graph import SGBlock
from adjobs.methods.slsg.inpaint import PIXELS, Inpainter
from adjobs.methods.slsg.loss import absolute, focal, mean_where, probability
from adjobs.methods.slsg.networks import STRIDE, AuxiliaryHead, Encoder, MapDecoder
from adjobs.nn.distributed import global_sum
from adjobs.nn.norm import recalibrate
from adjobs.synthesis.anomalies import Strategy, simulate
from adjobs.synthesis.bank import texture_bank
from adjobs.synthesis.foreground import level_foreground, otsu_foreground
from adjobs.synthesis.sources import jittered, others
from adjobs.types import Batch, Prediction, Simulated, StepLoss

IMAGENET_WIDTH = 64
SETTLE_BATCH = 16  # pictures whose statistics are taken at a time
BETAS = (0.5, 0.999)  # of Adam, as usual for GANs (DCGAN); the paper does not say


class SLSG(nn.Module):
    """The encoder, with what it learns by inpainting, and SegNet on top of it: SG block, decoder and auxiliary head."""

    def __init__(self, config: Config, image_size: int, seed: int) -> None:
        super().__init__()
        self.config = config
        self.image_size, self.seed = image_size, seed
        self.inpainter = Inpainter(config)
        self.graph = SGBlock(config, image_size // STRIDE)
        self.decoder = MapDecoder(config.width, bottleneck_skip=config.bottleneck_skip, skip_attention=config.skip_attention)
        self.auxiliary = AuxiliaryHead(config.width)
        self._bank: Tensor | None = None

    @property
    def encoder(self) -> Encoder:
        """Both stages' encoder."""
        return self.inpainter.encoder

    def train(self, mode: bool = True) -> Self:
        """Set the mode of SegNet; the encoder's batch normalisation stands still unless ``encoder_bn_train``."""
        super().train(mode)
        self.encoder.train(mode and self.config.encoder_bn_train)
        return self

    def forward(self, batch: Batch) -> StepLoss:
        """One step's loss of the segmentation, eq. (11)."""
        config = self.config
        found = self.simulate(batch)
        logits, aux = self._logits(jittered(found.images, batch.generator, config.jitter))
        # Where nobody knows whether a pixel is good, it says nothing.
        known = ~batch.unknown | found.masks
        terms = {
            "focal": focal(logits, found.masks, config.gamma),
            "l1": absolute(logits, found.masks),
            "auxiliary": absolute(aux, found.masks),
        }
        means = {name: mean_where(values, known, global_sum) for name, values in terms.items()}
        loss = config.alpha_focal * means["focal"] + config.alpha_l1 * means["l1"] + config.alpha_aux * means["auxiliary"]
        parts = {name: mean.detach() for name, mean in means.items()}
        answer = probability(logits.detach())
        for name, where in (("p_normal", known & ~found.masks), ("p_anomalous", found.masks)):
            parts[name] = mean_where(answer, where, global_sum)
        return StepLoss(loss, parts)

    def _logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """SegNet's logits and the auxiliary head's, both ``(B, 2, H, W)`` float32; no gradient reaches the encoder."""
        with torch.no_grad():
            maps = self.encoder(self.encoder.normalised(images))
        x = self.graph(maps[-1])
        logits, aux = self.decoder(maps, x).float(), self.auxiliary(x).float()
        return (logits + aux if self.config.sum_logits else logits), aux

    @torch.no_grad()
    def simulate(self, batch: Batch) -> Simulated:
        """Anomalies of Sec. 3.2 on the images meant to be simulated, with the batch's labelled defects beside them."""
        images = batch.images
        drawn = simulate(
            images,
            batch.generator,
            self._strategy(),
            textures=self._textures(images.device),
            others=others(images, batch.generator, batch.labels == 0),
            foreground=self._foreground(images),
        )
        marked = batch.simulate.view(-1, 1, 1, 1)
        masks = (drawn.masks & marked) | batch.masks
        assert drawn.logical is not None
        return Simulated(torch.where(marked, drawn.images, images), masks, drawn.logical & batch.simulate)

    def _settle(self, data: TrainingImages) -> None:
        """Take the encoder's batch statistics from whole pictures: until now they are those of masked ones, or of none."""
        self._open_textures()
        device = self.encoder.mean.device
        recalibrate(self.encoder, (self.encoder.normalised(b.images.to(device)) for b in data.normal(SETTLE_BATCH)))

    def _open_textures(self) -> None:
        """What is wrong with them is said before the first stage, not after it."""
        self._textures(self.encoder.mean.device)

    def _strategy(self) -> Strategy:
        config = self.config
        return Strategy(
            logical=config.logical,
            shuffled=config.shuffled,
            shuffled_is_logical=config.shuffled_is == "logical",
            shape=config.noise,
            structural_exponent=config.structural_exponent,
            logical_exponent=config.logical_exponent,
            structural_threshold=config.structural_threshold,
            logical_threshold=config.logical_threshold,
            faint=config.faint,
            logical_faint=config.logical_faint,
            rotation=config.rotation,
        )

    def _foreground(self, images: Tensor) -> Tensor | None:
        kind = self.config.foreground
        if kind == "auto":
            return otsu_foreground(images)
        return (
            None if kind == "everything" else level_foreground(images, self.config.foreground_level, brighter=kind == "brighter")
        )

    def _textures(self, device: torch.device) -> Tensor:
        """The same for the same seed, so that a resumed run goes on with them; no part of the model."""
        if self._bank is None or self._bank.device != device:
            config = self.config
            self._bank = texture_bank(config.textures, config.texture_count, self.image_size, self.seed).to(device)
        return self._bank

    def fill(self, images: Tensor, generator: Generator) -> tuple[Tensor, ...]:
        """What stage 1 is shown of ``(B, 3, H, W)`` pictures, and what it makes of that, in [0, 1]; nothing without stage 1."""
        return self.inpainter.fill(images, generator) if self.config.pretrain == "gpt" else ()

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """P(anomalous) of each pixel; an image scores the mean of its largest (Sec. 4.2)."""
        logits, _ = self._logits(images)
        maps = probability(logits)
        flat = maps.flatten(1)
        count = max(1, round(self.config.top * flat.shape[1] / PIXELS**2))
        return Prediction(flat.topk(count, 1).values.mean(1), maps)

    def stages(self) -> Sequence[Stage]:
        """Inpainting, unless the encoder comes from elsewhere, then segmentation."""
        config = self.config
        segment = Stage(
            name="segment",
            module=self,
            optimizer=self._segmenting,
            mix=BatchComposition(
                normal=config.batch_size - config.batch_size // 2,
                simulated=config.batch_size // 2,
                anomalous=config.labelled,
            ),
            steps=config.steps,
            schedule=_cosine,
            prepare=self._settle,
            size_params=("batch_size", "labelled"),
        )
        if config.pretrain != "gpt" or config.pretrain_from is not None:
            return [segment]
        inpaint = Stage(
            name="inpaint",
            module=self.inpainter,
            optimizer=self._inpainting,
            mix=BatchComposition(normal=config.pretrain_batch_size),
            epochs=config.pretrain_epochs,
            prepare=lambda data: self._open_textures(),
            predicts=False,
            size_params=("pretrain_batch_size",),
            depends_on={name: getattr(config, name) for name in INPAINTING},
        )
        return [inpaint, segment]

    def _inpainting(self) -> Optimizer:
        """Generator and discriminator, each with its learning rate."""
        net, config = self.inpainter, self.config
        generator = [p for part in (net.encoder, net.decoder, net.coarse) for p in part.parameters()]
        groups = [
            {"params": generator, "lr": config.pretrain_lr},
            {"params": list(net.discriminator.parameters()), "lr": config.discriminator_lr},
        ]
        return Adam(groups, betas=BETAS)

    def _segmenting(self) -> Optimizer:
        """For SegNet without its encoder."""
        config = self.config
        parameters = [p for part in (self.graph, self.decoder, self.auxiliary) for p in part.parameters()]
        return SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Take what another run's inpainting has learnt."""
        self.load_state_dict({**self.state_dict(), **{k: v for k, v in weights.items() if k.startswith("inpainter.")}})


def _cosine(progress: Progress) -> float:
    return (1 + math.cos(math.pi * progress.done)) / 2


def build(config: Config, *, image_size: int, seed: int) -> SLSG:
    """All networks with random weights, but an encoder that is to come from ImageNet.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create`; ImageNet's weights do not fit the width.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = SLSG(config, image_size, seed)
    if config.pretrain == "imagenet":
        if config.width != IMAGENET_WIDTH:
            raise JobError(
                f"params.width: got {config.width}, weights of ImageNet fit {IMAGENET_WIDTH} only; set that, or pretrain gpt"
            )
        method.encoder.take(create_embedder("resnet18", config.weights, seed=seed).features.state_dict())
    return method
