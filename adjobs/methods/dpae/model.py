"""DPAE: networks, training step, stage, and prediction."""

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
from adjobs.methods.dpae.features import FEATURE_STRIDE, STATS_BATCH, STRIDE, Features
from adjobs.methods.dpae.loss import move_prototype, squared_distance
from adjobs.methods.method import Method
from adjobs.nn.blur import gaussian_blur
from adjobs.nn.distributed import global_mean
from adjobs.nn.flips import draw_flips, flip
from adjobs.nn.gaussian_stats import GaussianStats, Moments
from adjobs.nn.place_stats import PlaceStats, draw_channels
from adjobs.types import Batch, Prediction, StepLoss

GRID = 16  # most Gaussians of residuals per side of the map
MAX_CHANNELS = 200  # of residuals; more are subsampled, so that Gaussians take 41 MB at most
RESIDUAL_SHRINKAGE = 0.01  # CDO's and PaDiM's


class _Forward(NamedTuple):
    """Input and reconstruction ``(B, C, H, W)``, and the latent vectors of both ``(B, d)``."""

    x: Tensor
    x_hat: Tensor
    z: Tensor
    z_hat: Tensor


class DPAE(Method):
    """Encoder 1, decoder, encoder 2 (Fig. 3), and a prototype for each encoder.

    Args:
        config: the parameters.
        features: the features to reconstruct; None for pixels.
        image_size: height and width of the images, in pixels.
        seed: of the subsampling of channels.
    """

    prototype_1: Tensor
    prototype_2: Tensor
    channels: Tensor

    def __init__(self, config: Config, features: Features | None, image_size: int, seed: int) -> None:
        super().__init__()
        self.config = config
        self.features = features
        channels, side = _channels(config, features), image_size // STRIDE
        self.encoder_1, self.encoder_2 = _encoder(config, channels, side), _encoder(config, channels, side)
        self.decoder = _decoder(config, channels, side)
        init = torch.randn if config.prototype_init == "random" else torch.zeros
        self.register_buffer("prototype_1", init(config.latent))
        self.register_buffer("prototype_2", init(config.latent))
        names = ("z", "z_hat", "difference") if config.distance == "mahalanobis" else ()
        self.latent_stats = nn.ModuleDict({name: GaussianStats(config.latent) for name in names})
        self.residual_stats: PlaceStats | None = None
        if config.distance == "mahalanobis":
            self.register_buffer("channels", draw_channels(channels[0], MAX_CHANNELS, seed))
            length = image_size if features is None else image_size // FEATURE_STRIDE
            self.residual_stats = PlaceStats(len(self.channels), (length, length), GRID, RESIDUAL_SHRINKAGE)

    def forward(self, batch: Batch) -> StepLoss:
        """Loss of one step: eq. (9) and the alignment that Sec. 3.3 names, as a mean over the global batch."""
        config = self.config
        flipped = draw_flips(len(batch.images), batch.generator) if config.flip else None
        x, x_hat, z, z_hat = self._reconstruct(self._training_input(batch, flipped))
        terms = {
            "rec": squared_distance(x, x_hat) / x[0].numel(),
            # z is detached: encoder 2 learns to invert the decoder, but z must not move to where that is easy.
            "align": squared_distance(z_hat, z.detach()),
        }
        if config.last_norm != "fixed":  # with it, they are constant, and the deviations below are 1
            terms["proto_1"] = squared_distance(z, self.prototype_1.expand_as(z)) / 2
            terms["proto_2"] = squared_distance(z_hat, self.prototype_2.expand_as(z_hat)) / 2
        means = {name: global_mean(values) for name, values in terms.items()}
        weights = {"rec": config.rec_scale, "proto_1": config.lam, "proto_2": config.gam, "align": config.align}
        loss = torch.stack([weights[name] * mean for name, mean in means.items()]).sum()
        self.prototype_1.copy_(move_prototype(self.prototype_1, global_mean(z.detach()), config.alpha))
        self.prototype_2.copy_(move_prototype(self.prototype_2, global_mean(z_hat.detach()), config.alpha))
        logged = {name: mean.detach() for name, mean in means.items()}
        if config.last_norm != "fixed":
            logged |= {"std_z": _deviation(z), "std_z_hat": _deviation(z_hat)}
        return StepLoss(loss, logged)

    def _training_input(self, batch: Batch, flipped: Tensor | None) -> Tensor:
        """Input of the autoencoder for training images, flipped where ``flipped``, ``(B,)`` bool, is True."""
        if self.features is not None and self.features.cache is not None:
            return self.features.cached(batch.indices, flipped)
        return self._input(batch.images if flipped is None else flip(batch.images, flipped))

    def _input(self, images: Tensor) -> Tensor:
        """Input of the autoencoder for ``(B, 3, H, W)`` images in [0, 1]: features or pixels."""
        return images if self.features is None else self.features(images)

    def _reconstruct(self, x: Tensor) -> _Forward:
        z = self.encoder_1(x)
        x_hat = self.decoder(z)
        return _Forward(x, x_hat, z, self.encoder_2(x_hat))

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """All scores, in float32, because the latent vectors of an image and its reconstruction are nearly equal."""
        with torch.autocast(images.device.type, enabled=False):
            forward = self._reconstruct(self._input(images.float()))
            maps = self._residual_distances(forward)[:, None]
            if maps.shape[-2:] != images.shape[-2:]:
                maps = F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)
            smooth = gaussian_blur(maps, self.config.sigma * min(images.shape[-2:]) / 256)
            scores = self._scores(forward) | {"peak": smooth.amax((1, 2, 3))}
        return Prediction(scores[self.config.score], smooth, scores)

    def _residual_distances(self, forward: _Forward) -> Tensor:
        """How unusual the residual x − x̂ is at each position, ``(B, H, W)``: Mahalanobis distance, or mean squared error."""
        residual = forward.x - forward.x_hat
        if self.residual_stats is None:
            return residual.square().mean(1)
        distances: Tensor = self.residual_stats(residual[:, self.channels])
        return distances

    def _scores(self, forward: _Forward) -> dict[str, Tensor]:
        """RLZ (eq. 10), RLX (eq. 4, as a mean over the values), PL1 and PL2 (Table 6), each ``(B,)`` and ≥ 0."""
        x, x_hat, z, z_hat = forward
        rlx = squared_distance(x, x_hat) / x[0].numel()
        if self.latent_stats:
            stats = self.latent_stats
            return {"rlz": stats["difference"](z - z_hat), "rlx": rlx, "pl1": stats["z"](z), "pl2": stats["z_hat"](z_hat)}
        return {
            "rlz": squared_distance(z, z_hat),
            "rlx": rlx,
            "pl1": squared_distance(z, self.prototype_1.expand_as(z)),
            "pl2": squared_distance(z_hat, self.prototype_2.expand_as(z_hat)),
        }

    def stages(self) -> Sequence[Stage]:
        """One stage at a constant learning rate (Sec. 4.2); Mahalanobis distances are fitted before each validation."""
        config = self.config

        def optimizer() -> Optimizer:
            trained = [p for network in (self.encoder_1, self.decoder, self.encoder_2) for p in network.parameters()]
            if config.optimizer == "adam":
                betas = (config.momentum, 0.999)
                return Adam(trained, lr=config.lr, betas=betas, weight_decay=config.weight_decay)
            return SGD(trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)

        return [
            Stage(
                name="reconstruct",
                module=self,
                optimizer=optimizer,
                mix=BatchComposition(normal=config.batch_size),
                epochs=config.epochs,
                prepare=self.features.fit if self.features is not None else None,
                on_stage_start=self.features.open_cache if self.features is not None else None,
                fit_statistics=self._fit_stats if self.latent_stats else None,
                capturable=True,
            )
        ]

    @torch.no_grad()
    def _fit_stats(self, data: TrainingImages) -> None:
        """Fit Gaussians to z, ẑ, z − ẑ and the residuals of the normal training images, not flipped, as in prediction."""
        assert self.residual_stats is not None
        was_training = self.training
        self.eval()
        moments = {name: Moments() for name in self.latent_stats}
        residuals = self.residual_stats.moments()
        for batch in data.normal(STATS_BATCH):
            x, x_hat, z, z_hat = self._reconstruct(self._training_input(batch, None))
            residuals.add((x - x_hat)[:, self.channels])
            for name, vectors in {"z": z, "z_hat": z_hat, "difference": z - z_hat}.items():
                moments[name].add(vectors)
        for name, stats in self.latent_stats.items():
            assert isinstance(stats, GaussianStats)
            stats.fit(moments[name], self.config.shrinkage)
        self.residual_stats.fit(residuals)
        self.train(was_training)


def _deviation(z: Tensor) -> Tensor:
    """Standard deviation over this worker's images, averaged over the dimensions: reveals a collapse."""
    return z.detach().float().std(0).mean()


def _channels(config: Config, features: Features | None) -> list[int]:
    """Channels before and after each halving: Table 1's for pixels; only its first two halvings for features, of stride 8."""
    w, d = config.width, config.latent
    return [3, w, 2 * w, d, d, d] if features is None else [features.channels, w, 2 * w]


def _encoder(config: Config, channels: Sequence[int], side: int) -> nn.Sequential:
    """Images or features to ``(B, d)``: the decoder of Table 1, mirrored; the paper gives no sizes for the encoder."""
    d = config.latent
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        # Batch normalisation makes a bias redundant, also below.
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.LeakyReLU(config.slope),
        ]
    layers += [nn.Flatten(), nn.Linear(channels[-1] * side**2, d, bias=config.last_norm == "none")]
    if config.last_norm != "none":
        layers.append(nn.BatchNorm1d(d, affine=config.last_norm == "affine"))
    return nn.Sequential(*layers)


def _decoder(config: Config, channels: Sequence[int], side: int) -> nn.Sequential:
    """``(B, d)`` to images or features, Table 1."""
    size = channels[-1] * side**2
    layers: list[nn.Module] = [
        nn.Linear(config.latent, size, bias=False),
        nn.BatchNorm1d(size),
        nn.Unflatten(1, (channels[-1], side, side)),
    ]
    printed = config.out_act == "printed"
    for i, (before, after) in enumerate(pairwise(reversed(channels)), start=2):
        linear = i == len(channels) and not printed
        layers.append(nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1, bias=linear))
        if not linear:
            layers += [nn.BatchNorm2d(after), nn.LeakyReLU(config.slope)]
    return nn.Sequential(*layers)


def build(config: Config, *, image_size: int, seed: int) -> DPAE:
    """Build the networks with random weights, and the pretrained one whose features they reconstruct.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create_backbone`.
    """
    features = None
    if config.reconstruct == "features":
        backbone = create_backbone(config.backbone, config.weights, seed=seed)
        features = Features(backbone, views=2 if config.flip else 1, max_bytes=config.feature_cache_gib * 2**30)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DPAE(config, features, image_size, seed)
