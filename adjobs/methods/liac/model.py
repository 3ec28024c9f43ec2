"""LIAC's couple of networks, training step and score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from adjobs.backbones import Embedder, create_embedder
from adjobs.errors import DataError
from adjobs.methods.contract import BatchComposition, Progress, Stage, TrainingImages
from adjobs.methods.liac import loss as losses
from adjobs.methods.liac.config import Config, Loss
from adjobs.methods.liac.loss import abnormality_capturing, distance
from adjobs.nn.distributed import global_mean
from adjobs.nn.flips import UPSIDE_DOWN, VIEWS, random_flip
from adjobs.types import Batch, Prediction, StepLoss


class _Answer(NamedTuple):
    """Logit difference z₁ − z₀ ``(B,)``, distance D ``(B,)`` (0 for a single network), and what was pooled by each network."""

    delta: Tensor
    d: Tensor
    maps: list[Tensor]


class LIAC(nn.Module):
    """A classifier on [f_T, f_S, D], eq. (12); both networks are trained with it."""

    margin: Tensor

    def __init__(self, teacher: Embedder, student: Embedder | None, config: Config) -> None:
        super().__init__()
        self.teacher, self.student = teacher, student
        self.features = teacher.width + (student.width if student else 0)
        self.head = nn.Linear(self.features + (1 if student else 0), 2)
        self.config = config
        # log(p₀ / p₁) of the training part, counted before the first step.
        self.register_buffer("margin", torch.zeros(()))

    def forward(self, batch: Batch) -> StepLoss:
        """One step's loss, eq. (13), as a mean over the global batch."""
        config = self.config
        images = random_flip(batch.images, batch.generator) if config.flip else batch.images
        if config.flip_vertical:
            images = random_flip(images, batch.generator, UPSIDE_DOWN)
        answer = self._answer(images)
        anomalous = batch.labels.bool()
        induced = self._classified(answer.delta, anomalous)
        captured = abnormality_capturing(answer.d, anomalous, config.acl_sign)
        loss = global_mean(induced)
        parts = {"classification": loss.detach()}
        if config.couple:
            acl = global_mean(captured)
            loss = loss + config.w_acl * acl
            parts |= {"acl": acl.detach(), **self._by_class(answer.d.detach(), anomalous)}
        return StepLoss(loss, parts)

    @torch.no_grad()
    def _by_class(self, d: Tensor, anomalous: Tensor) -> dict[str, Tensor]:
        """Distances of normal and of anomalous images, such that their averages over batches of one size are the classes' means.

        Hence divided by the share of the class in the training part: a batch may have no anomaly at all.
        """
        share = torch.sigmoid(-self.margin)  # p₁
        return {"d_normal": global_mean(d * ~anomalous) / (1 - share), "d_anomalous": global_mean(d * anomalous) / share}

    def _classified(self, delta: Tensor, anomalous: Tensor) -> Tensor:
        """The classification loss of each image."""
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

    def _answer(self, images: Tensor) -> _Answer:
        maps = [network(images) for network in (self.teacher, self.student) if network is not None]
        # In bfloat16 a logit of 20 has steps of an eighth, and networks that hardly differ yet have no distance at all.
        with torch.autocast(images.device.type, enabled=False):
            maps = [each.to(torch.promote_types(each.dtype, torch.float32)) for each in maps]
            features = [each.mean((2, 3)) for each in maps]
            if self.student is not None:
                d = distance(features[0], features[1], self.config.norm)
                logits = self.head(torch.cat([*features, d[:, None]], 1))
            else:
                d = torch.zeros(len(images), device=images.device)
                logits = self.head(features[0])
        return _Answer(logits[:, 1] - logits[:, 0], d, maps)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Prediction:
        """The probability of "anomalous", eq. (1), of the mean logit of several mirrored views, and their mean distance and map.

        In float64: float32 rounds the probabilities of logits from 17 on to 1.
        """
        views = VIEWS[: self.config.views]
        answers = [self._answer(images.flip(axes)) for axes in views]
        delta, d = (torch.stack(each).mean(0) for each in ([a.delta for a in answers], [a.d for a in answers]))
        maps = None
        if self.config.heat_map:
            # As logits: a position's is not bounded as the mean is, and as probabilities many would be 1.
            back = [self._activation(answer).flip(axes) for answer, axes in zip(answers, views, strict=True)]
            maps = F.interpolate(torch.stack(back).mean(0), images.shape[-2:], mode="bilinear", align_corners=False)
        return Prediction(torch.sigmoid(delta.double()), maps, {"distance": d} if self.config.couple else None)

    def _activation(self, answer: _Answer) -> Tensor:
        """Class activation map ``(B, 1, h, w)``: each position's part of z₁ − z₀, whose mean over the positions it is.

        The pooled feature is a mean over positions, hence the logit difference, too; D and the bias count everywhere alike.
        """
        weight = self.head.weight[1] - self.head.weight[0]
        local = torch.einsum("bchw,c->bhw", torch.cat(answer.maps, 1), weight[: self.features])
        everywhere = answer.delta - local.mean((1, 2))
        return (local + everywhere[:, None, None])[:, None]

    def stages(self) -> Sequence[Stage]:
        """One stage: both networks and the head."""
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
                prepare=self._count,
            )
        ]

    def _count(self, data: TrainingImages) -> None:
        """Take the label frequencies of the whole training part, whatever a worker's share."""
        if not (data.n_normal and data.n_anomalous):
            raise DataError(
                f"training part: {data.n_normal} normal and {data.n_anomalous} anomalous images; LIAC learns from both kinds, "
                "label some of each or choose a protocol that puts some into the training part (liac, holdout)"
            )
        self.margin.fill_(math.log(data.n_normal / data.n_anomalous))


def _halved(progress: Progress) -> float:
    """Half the learning rate from half time on (Sec. IV-B)."""
    return 0.5 if progress.done >= 0.5 else 1.0


def _cosine(progress: Progress) -> float:
    """From the whole learning rate to nothing along half a cosine."""
    return (1 + math.cos(math.pi * progress.done)) / 2


def build(config: Config, *, image_size: int, seed: int) -> LIAC:
    """Both networks with their weights, and a head of random ones.

    Raises:
        JobError, DataError: see :func:`adjobs.backbones.create_backbone`.
    """
    weights = config.weights if config.student_init == "pretrained" else "none"
    teacher = create_embedder(config.backbone, config.weights, seed=seed)
    student = create_embedder(config.backbone, weights, seed=seed + 1) if config.couple else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LIAC(teacher, student, config)
