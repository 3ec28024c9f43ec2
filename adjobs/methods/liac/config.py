"""Hyperparameters of LIAC. Sections, equations and tables in the descriptions are the paper's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adjobs.methods.contract import BackboneWeights, MethodConfig, Supervision
from adjobs.types import BackboneName

Loss = Literal["logit_inducing", "weighted_ce", "focal", "asymmetric", "logit_adjustment", "encouraging"]

# The values a preset sets; all others keep their defaults, and the user's own values take precedence.
PRESETS: dict[str, dict[str, object]] = {
    "paper": {
        "backbone": "resnet34",
        "floor": None,
        "flip_vertical": False,
        "views": 1,
        "w_acl": 1.0,
        "optimizer": "sgd",
        "lr": 1e-3,
        "weight_decay": 1e-4,
        "schedule": "halved",
        "batch_size": 64,
        "epochs": 100,
    },
}


class Config(MethodConfig):
    """Defaults are those that the card's results were measured with; preset ``paper`` is as printed."""

    backbone: BackboneName = Field("tf_efficientnet_lite0", description="both networks; paper: resnet34 (Sec. IV-B)")
    weights: BackboneWeights = Field("auto", description="their initial weights: auto, packaged, timm, none, a file or s3:// URI")
    student_init: Literal["pretrained", "random"] = Field(
        "pretrained", description="initial weights of the student, the second network (Sec. IV-B: pretrained)"
    )
    couple: bool = Field(True, description="two networks and their distance; false: only one, as in the baselines")
    loss: Loss = Field("logit_inducing", description="classification loss; all but logit_inducing are the paper's baselines")
    floor: float | None = Field(
        10.0,
        ge=0,
        le=100,
        description="logit above the margin from which logit_inducing stops pulling on an anomaly; null: never (eq. 4)",
    )
    w_acl: float = Field(
        1.7,
        ge=0,
        le=100,
        description="weight λ of the abnormality capturing loss (eq. 13: 1; Fig. 7's ablation: 0); unused with couple false",
    )
    acl_sign: Literal["corrected", "as_printed"] = Field(
        "corrected", description="corrected: the networks' distance on anomalies is increased; as_printed: eq. (11), the reverse"
    )
    norm: Literal["l2", "l2sq"] = Field(
        "l2", description="features are divided by their length, or by its square (eq. 10 as printed)"
    )
    focal_gamma: float = Field(2.0, ge=0, le=8, description="exponent γ of loss focal and asymmetric (Lin et al. 2017: 2)")
    focal_alpha: float = Field(0.25, gt=0, lt=1, description="weight of anomalies in loss focal (Lin et al. 2017: 0.25)")
    flip: bool = Field(True, description="flip training images left to right with probability 1/2 (Sec. IV-B)")
    flip_vertical: bool = Field(True, description="flip them upside down, too, with probability 1/2; not in the paper")
    views: Literal[1, 2, 4] = Field(
        4,
        description="views of an image whose logits are averaged, at as many times the cost: the image itself (1, paper), also "
        "flipped left to right (2), and both also upside down (4)",
    )
    heat_map: bool = Field(
        False,
        description="give class activation maps: coarse (1/32 of the image), from image labels only; not in the paper",
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="optimizer (Sec. IV-B: sgd, which needs many more epochs)")
    lr: float = Field(6.51e-4, gt=0, le=1, description="learning rate (Sec. IV-B: 1e-3 with sgd)")
    schedule: Literal["cosine", "halved"] = Field(
        "cosine", description="learning rate: down to 0 along a cosine, or halved after half of the epochs (Sec. IV-B)"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD, β₁ of AdamW; not given in the paper")
    weight_decay: float = Field(0.00162, ge=0, le=1, description="weight decay; not given in the paper")
    batch_size: int = Field(
        32, ge=2, le=4096, description="global batch over all workers, drawn from all training images (Sec. IV-B: 64)"
    )
    epochs: int = Field(12, ge=1, le=100_000, description="passes over the training images (Sec. IV-B: 100)")

    @property
    def supervision_used(self) -> Supervision:
        """Image labels."""
        return "image labels"
