"""LIAC: the two networks, training step, stage, and prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from adjobs import devices
from adjobs.backbones import Embedder, create_embedder
from adjobs.errors import DataError
from adjobs.methods.contract import BatchComposition, Progress, Stage, TrainingImages
from adjobs.methods.liac import loss as losses
from adjobs.methods.liac.config import Config, Loss
from adjobs.methods.liac.loss import abnormality_capturing, distance
from adjobs.methods.method import Method
from adjobs.nn.distributed import global_mean
from adjobs.nn.flips import UPSIDE_DOWN, VIEWS, random_flip
from adjobs.types import Batch, Prediction, StepLoss


class _Forward(NamedTuple):
    """Logit difference z₁ − z₀ ``(B,)``, distance D ``(B,)`` (0 for a single network), and each network's last feature map."""

    delta: Tensor
    d: Tensor
    maps: list[Tensor]


class LIAC(Method):
    """A linear classifier on [f_T, f_S, D], eq. (12), trained together with both networks.

    Args:
        teacher: the first network.
        student: the second network; None for a single one.
        config: the parameters.
    """

    margin: Tensor

    def __init__(self, teacher: Embedder, student: Embedder | None, config: Config) -> None:
        super().__init__()
        self.teacher, self.student = teacher, student
        self.feature_dim = teacher.width + (student.width if student else 0)
        self.head = nn.Linear(self.feature_dim + (1 if student else 0), 2)
        self.config = config
        # log(p₀ / p₁) of the training split, counted before the first step.
        self.register_buffer("margin", torch.zeros(()))

    def forward(self, batch: Batch) -> StepLoss:
        """Loss of one step, eq. (13), as a mean over the global batch."""
        config = self.config
        images = random_flip(batch.images, batch.generator) if config.flip else batch.images
        if config.flip_vertical:
            images = random_flip(images, batch.generator, UPSIDE_DOWN)
        delta, d, _ = self._forward(images)
        anomalous = batch.labels.bool()
        loss = global_mean(self._classification_loss(delta, anomalous))
        terms = {"classification": loss.detach()}
        if config.couple:
            acl = global_mean(abnormality_capturing(d, anomalous, config.acl_sign))
            loss = loss + config.w_acl * acl
            terms |= {"acl": acl.detach(), **self._mean_distances(d.detach(), anomalous)}
        return StepLoss(loss, terms)

    @torch.no_grad()
    def _mean_distances(self, d: Tensor, anomalous: Tensor) -> dict[str, Tensor]:
        """Mean distances of normal and of anomalous images, to be averaged over batches.

        Divided by the frequency of the class in the training split, not in the batch, which may contain no anomaly.
        """
        frequency = torch.sigmoid(-self.margin)  # p₁
        return {
            "d_normal": global_mean(d * ~anomalous) / (1 - frequency),
            "d_anomalous": global_mean(d * anomalous) / frequency,
        }

    def _classification_loss(self, delta: Tensor, anomalous: Tensor) -> Tensor:
        """Classification loss of each image."""
        config = self.config
        by_name: dict[Loss, Callable[[], Tensor]] = {
            "logit_inducing": lambda: losses.logit_inducing(delta, anomalous, self.margin, config.floor),
            "logit_adjustment": lambda: losses.logit_adjustment(delta, anomalous, self.margin),
            "weighted_ce": lambda: losses.weighted_ce(delta, anomalous, self.margin),
            "focal": lambda: losses.focal(delta, anomalous, config.focal_gamma, config.focal_alpha),
            "asymmetric": lambda: losses.asymmetric(delta, anomalous, config.focal_gamma),
            "encouraging": lambda: losses.encouraging(delta, anomalous),
        }
        return by_name[config.loss]()

    def _forward(self, images: Tensor) -> _Forward:
        maps = [network(images) for network in (self.teacher, self.student) if network is not None]
        # In bfloat16, logits around 20 are multiples of 1/8, and the distance of similar networks is 0.
        with torch.autocast(images.device.type, enabled=False):
            maps = [each.to(torch.promote_types(each.dtype, torch.float32)) for each in maps]
            features = [each.mean((2, 3)) for each in maps]
            if self.student is not None:
                d = distance(features[0], features[1], self.config.norm)
                logits = self.head(torch.cat([*features, d[:, None]], 1))
            else:
                d = torch.zeros(len(images), device=images.device)
                logits = self.head(features[0])
        return _Forward(logits[:, 1] - logits[:, 0], d, maps)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """Probability of "anomalous", eq. (1), of the mean logit of several flipped views; mean distance and map of the views.

        The probability is float64: float32 rounds that of logits above 17 to 1.
        """
        views = VIEWS[: self.config.views]
        batches = [images.flip(dims) for dims in views]
        # A processor takes longer for larger batches, whose maps do not fit into its cache, but for those of a single image.
        if devices.is_gpu(images.device) or len(images) == 1:
            batches = [torch.cat(batches)]
        outputs = [self._forward(batch) for batch in batches]
        delta = torch.cat([output.delta for output in outputs]).view(len(views), -1).mean(0)
        d = torch.cat([output.d for output in outputs]).view(len(views), -1).mean(0)
        maps = None
        if self.config.heat_map:
            # Logits, because probabilities of single positions would mostly be rounded to 1.
            by_view = torch.split(torch.cat([self._class_activation(output) for output in outputs]), len(images))
            upright = [view.flip(dims) for view, dims in zip(by_view, views, strict=True)]
            maps = F.interpolate(torch.stack(upright).mean(0), images.shape[-2:], mode="bilinear", align_corners=False)
        return Prediction(torch.sigmoid(delta.double()), maps, {"distance": d} if self.config.couple else None)

    def _class_activation(self, output: _Forward) -> Tensor:
        """Class activation map ``(B, 1, h, w)``, whose mean over the positions is z₁ − z₀.

        Pooled features are means over positions, so z₁ − z₀ is one, too; D and the bias contribute equally everywhere.
        """
        weight = self.head.weight[1] - self.head.weight[0]
        local = torch.einsum("bchw,c->bhw", torch.cat(output.maps, 1), weight[: self.feature_dim])
        constant = output.delta - local.mean((1, 2))
        return (local + constant[:, None, None])[:, None]

    def stages(self) -> Sequence[Stage]:
        """One stage, which trains both networks and the head."""
        config = self.config

        def optimizer() -> Optimizer:
            if config.optimizer == "sgd":
                return SGD(self.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
            betas = (config.momentum, 0.999)
            return AdamW(self.parameters(), lr=config.lr, betas=betas, weight_decay=config.weight_decay)

        return [
            Stage(
                name="classify",
                module=self,
                optimizer=optimizer,
                mix=BatchComposition(all_labels=config.batch_size),
                epochs=config.epochs,
                schedule=_halved if config.schedule == "halved" else _cosine,
                prepare=self._count_labels,
                capturable=True,
            )
        ]

    def _count_labels(self, data: TrainingImages) -> None:
        """Set the margin from the label frequencies of the whole training split, not of a worker's images."""
        if not (data.n_normal and data.n_anomalous):
            raise DataError(
                f"training split: {data.n_normal} normal and {data.n_anomalous} anomalous images; LIAC needs both: label some "
                "of each, or choose a protocol that puts anomalies into the training split (liac, holdout)"
            )
        self.margin.fill_(math.log(data.n_normal / data.n_anomalous))


def _halved(progress: Progress) -> float:
    """Halves the learning rate after half of the training (Sec. IV-B)."""
    return 0.5 if progress.done >= 0.5 else 1.0


def _cosine(progress: Progress) -> float:
    """From 1 to 0 along half a period of a cosine."""
    return (1 + math.cos(math.pi * progress.done)) / 2


def build(config: Config, *, image_size: int, seed: int) -> LIAC:
    """Build both networks with their weights, and a random head.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create_backbone`.
    """
    student_weights = config.weights if config.student_init == "pretrained" else "none"
    teacher = create_embedder(config.backbone, config.weights, seed=seed)
    student = create_embedder(config.backbone, student_weights, seed=seed + 1) if config.couple else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LIAC(teacher, student, config)
