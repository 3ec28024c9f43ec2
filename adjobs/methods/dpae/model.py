"""DPAE's networks, training step and scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from adjobs.backbones import create_backbone
from adjobs.methods.contract import BatchComposition, Stage, TrainingImages
from adjobs.methods.dpae.config import Config
from adjobs.methods.dpae.features import MEASURE_BATCH, STRIDE, Features
from adjobs.methods.dpae.loss import moved, squared_distance
from adjobs.nn.blur import gaussian_blur
from adjobs.nn.distributed import global_mean
from adjobs.nn.flips import draw_flips, flip
from adjobs.nn.spread import Moments, Spread
from adjobs.types import Batch, Prediction, StepLoss


class _Answer(NamedTuple):
    """What is reconstructed and its reconstruction ``(B, C, H, W)``, and the latent vectors of both ``(B, d)``."""

    x: Tensor
    x_hat: Tensor
    z: Tensor
    z_hat: Tensor


class DPAE(nn.Module):
    """Encoder 1, decoder, encoder 2 (Fig. 3), a prototype for each encoder, and the spread of both and of their difference."""

    prototype_1: Tensor
    prototype_2: Tensor

    def __init__(self, config: Config, features: Features | None, side: int) -> None:
        super().__init__()
        self.config = config
        self.features = features
        channels, corner = _channels(config, features), side // STRIDE
        self.encoder_1, self.encoder_2 = _encoder(config, channels, corner), _encoder(config, channels, corner)
        self.decoder = _decoder(config, channels, corner)
        first = torch.randn if config.prototype_init == "random" else torch.zeros
        self.register_buffer("prototype_1", first(config.latent))
        self.register_buffer("prototype_2", first(config.latent))
        names = ("z", "z_hat", "gap") if config.distance == "mahalanobis" else ()
        self.spread = nn.ModuleDict({name: Spread(config.latent) for name in names})

    def forward(self, batch: Batch) -> StepLoss:
        """One step's loss, eq. (9), as a mean over the global batch, with the term that Sec. 3.3 names beside it."""
        config = self.config
        answer = self._answer(self._seen(batch, draw_flips(len(batch.images), batch.generator) if config.flip else None))
        z, z_hat = answer.z, answer.z_hat
        terms = {
            "rec": squared_distance(answer.x, answer.x_hat) / answer.x[0].numel(),
            # z stands still: encoder 2 learns to undo the decoder on normal images, and z is not drawn to what is easily undone.
            "align": squared_distance(z_hat, z.detach()),
        }
        if config.last_norm != "fixed":  # behind which they are constants, and the deviations below one
            terms["proto_1"] = squared_distance(z, self.prototype_1.expand_as(z)) / 2
            terms["proto_2"] = squared_distance(z_hat, self.prototype_2.expand_as(z_hat)) / 2
        means = {name: global_mean(values) for name, values in terms.items()}
        weights = {"rec": config.rec_scale, "proto_1": config.lam, "proto_2": config.gam, "align": config.align}
        loss = torch.stack([weights[name] * mean for name, mean in means.items()]).sum()
        self.prototype_1.copy_(moved(self.prototype_1, global_mean(z.detach()), config.alpha))
        self.prototype_2.copy_(moved(self.prototype_2, global_mean(z_hat.detach()), config.alpha))
        parts = {name: mean.detach() for name, mean in means.items()}
        if config.last_norm != "fixed":
            parts |= {"std_z": _deviation(z), "std_z_hat": _deviation(z_hat)}
        return StepLoss(loss, parts)

    def _seen(self, batch: Batch, flipped: Tensor | None) -> Tensor:
        """What is to be reconstructed of a training batch, mirrored where it says so: maps, kept or made now, or pixels."""
        if self.features is not None and self.features.cache is not None:
            return self.features.of(batch.indices, flipped)
        return self._x(batch.images if flipped is None else flip(batch.images, flipped))

    def _x(self, images: Tensor) -> Tensor:
        """What is to be reconstructed of ``(B, 3, H, W)`` images in [0, 1]."""
        return images if self.features is None else self.features(images)

    def _answer(self, x: Tensor) -> _Answer:
        z = self.encoder_1(x)
        x_hat = self.decoder(z)
        return _Answer(x, x_hat, z, self.encoder_2(x_hat))

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """All scores in float32, since the latent vectors of an image and its reconstruction nearly agree."""
        with torch.autocast(images.device.type, enabled=False):
            answer = self._answer(self._x(images.float()))
            error = (answer.x - answer.x_hat).square().mean(1, keepdim=True)
            if error.shape[-2:] != images.shape[-2:]:
                error = F.interpolate(error, images.shape[-2:], mode="bilinear", align_corners=False)
            smooth = gaussian_blur(error, self.config.sigma * min(images.shape[-2:]) / 256)
            scores = self._scores(answer) | {"peak": smooth.amax((1, 2, 3))}
        return Prediction(scores[self.config.score], smooth, scores)

    def _scores(self, answer: _Answer) -> dict[str, Tensor]:
        """RLZ (eq. 10), RLX (eq. 4, as a mean over the values), PL1 and PL2 (Table 6), each ``(B,)`` and ≥ 0."""
        z, z_hat = answer.z, answer.z_hat
        rlx = squared_distance(answer.x, answer.x_hat) / answer.x[0].numel()
        if self.spread:
            spread = self.spread
            return {"rlz": spread["gap"](z - z_hat), "rlx": rlx, "pl1": spread["z"](z), "pl2": spread["z_hat"](z_hat)}
        return {
            "rlz": squared_distance(z, z_hat),
            "rlx": rlx,
            "pl1": squared_distance(z, self.prototype_1.expand_as(z)),
            "pl2": squared_distance(z_hat, self.prototype_2.expand_as(z_hat)),
        }

    def stages(self) -> Sequence[Stage]:
        """Training at a constant learning rate (Sec. 4.2); for Mahalanobis distances the spread is measured after each round."""
        config = self.config

        def optimizer() -> Optimizer:
            own = [p for part in (self.encoder_1, self.decoder, self.encoder_2) for p in part.parameters()]
            if config.optimizer == "adam":
                betas = (config.momentum, 0.999)
                return Adam(own, lr=config.lr, betas=betas, weight_decay=config.weight_decay)
            return SGD(own, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)

        return [
            Stage(
                name="reconstruct",
                module=self,
                optimizer=optimizer,
                mix=BatchComposition(normal=config.batch_size),
                epochs=config.epochs,
                prepare=self.features.measure if self.features is not None else None,
                on_stage_start=self.features.keep if self.features is not None else None,
                fit_statistics=self._measure if self.spread else None,
            )
        ]

    @torch.no_grad()
    def _measure(self, data: TrainingImages) -> None:
        """Centre and spread of z, ẑ and z − ẑ over the normal training images, unmirrored as predictions are."""
        was_training = self.training
        self.eval()
        moments = {name: Moments() for name in self.spread}
        for batch in data.normal(MEASURE_BATCH):
            answer = self._answer(self._seen(batch, None))
            found = {"z": answer.z, "z_hat": answer.z_hat, "gap": answer.z - answer.z_hat}
            for name, vectors in found.items():
                moments[name].add(vectors)
        for name, spread in self.spread.items():
            assert isinstance(spread, Spread)
            spread.measure(moments[name], self.config.shrinkage)
        self.train(was_training)


def _deviation(z: Tensor) -> Tensor:
    """Standard deviation over this worker's images, mean over the dimensions: shows a collapse."""
    return z.detach().float().std(0).mean()


def _channels(config: Config, features: Features | None) -> list[int]:
    """Before and after each halving: Table 1's for pictures, its first two steps for features, which come at stride 8."""
    w, d = config.width, config.latent
    return [3, w, 2 * w, d, d, d] if features is None else [features.channels, w, 2 * w]


def _encoder(config: Config, channels: Sequence[int], corner: int) -> nn.Sequential:
    """To ``(B, d)``: the decoder of Table 1 mirrored; the figure that shows the layers has no numbers."""
    d = config.latent
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        # Batch normalisation takes a bias away, here and below.
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(config.slope),
        ]
    layers += [nn.Flatten(), nn.Linear(channels[-1] * corner**2, d, bias=config.last_norm == "none")]
    if config.last_norm != "none":
        layers.append(nn.BatchNorm1d(d, affine=config.last_norm == "affine"))
    return nn.Sequential(*layers)


def _decoder(config: Config, channels: Sequence[int], corner: int) -> nn.Sequential:
    """From ``(B, d)``, Table 1."""
    size = channels[-1] * corner**2
    layers: list[nn.Module] = [
        nn.Linear(config.latent, size, bias=False),
        nn.BatchNorm1d(size),
        nn.Unflatten(1, (channels[-1], corner, corner)),
    ]
    printed = config.out_act == "printed"
    for i, (before, after) in enumerate(pairwise(reversed(channels)), start=2):
        plain = i == len(channels) and not printed
        layers.append(nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1, bias=plain))
        if not plain:
            layers += [nn.BatchNorm2d(after), nn.LeakyReLU(config.slope)]
    return nn.Sequential(*layers)


def build(config: Config, *, image_size: int, seed: int) -> DPAE:
    """All networks with random weights but the one whose features are reconstructed, for pictures of ``image_size`` pixels.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create_backbone`.
    """
    features = None
    if config.reconstruct == "features":
        backbone = create_backbone(config.backbone, config.weights, seed=seed)
        features = Features(backbone, views=2 if config.flip else 1, max_bytes=config.feature_cache_gib * 2**30)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DPAE(config, features, image_size)
