"""Every number of LIAC that a user may tune. Sections, equations and tables are the paper's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adjobs.methods.contract import MethodConfig, Supervision
from adjobs.types import BackboneName

Loss = Literal["logit_inducing", "weighted_ce", "focal", "asymmetric", "logit_adjustment", "encouraging"]

# What a preset changes; everything else stays at its default, and what the user sets wins.
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
    """Defaults are those of the card's figures where it says nothing else; preset ``paper`` is as printed."""

    backbone: BackboneName = Field("tf_efficientnet_lite0", description="both networks; paper: resnet34 (Sec. IV-B)")
    weights: str = Field("auto", description="their first weights: auto, packaged, timm, none, a file or s3:// URI")
    student_init: Literal["pretrained", "random"] = Field(
        "pretrained", description="where the second network starts (Sec. IV-B: pretrained)"
    )
    couple: bool = Field(True, description="two networks and their distance; false: one, without distance, as the baselines")
    loss: Loss = Field("logit_inducing", description="classification loss; all but logit_inducing are the paper's baselines")
    floor: float | None = Field(
        10.0,
        ge=0,
        le=100,
        description="logit beyond the margin at which logit_inducing lets go of an anomaly; null: never, eq. (4)",
    )
    w_acl: float = Field(
        1.7,
        ge=0,
        le=100,
        description="weight λ of the abnormality capturing loss, for a couple; eq. (13): 1; 0: Fig. 7's ablation",
    )
    acl_sign: Literal["corrected", "as_printed"] = Field(
        "corrected", description="corrected: anomalies are driven apart; as_printed: eq. (11) to the letter, the reverse"
    )
    norm: Literal["l2", "l2sq"] = Field(
        "l2", description="features divided by their length, or by its square as eq. (10) is printed"
    )
    focal_gamma: float = Field(2.0, ge=0, le=8, description="exponent γ of loss focal and asymmetric (Lin et al. 2017: 2)")
    focal_alpha: float = Field(0.25, gt=0, lt=1, description="weight of anomalies in loss focal (Lin et al. 2017: 0.25)")
    flip: bool = Field(True, description="mirror training images left to right with a chance of one half (Sec. IV-B)")
    flip_vertical: bool = Field(True, description="mirror them upside down, too, with a chance of one half; not in the paper")
    views: Literal[1, 2, 4] = Field(
        4,
        description="views of a picture whose mean logit gives its score, at so many times the cost: itself (1, the paper), "
        "mirrored left to right (2), and both of them upside down (4)",
    )
    heat_map: bool = Field(
        False,
        description="give class activation maps; not in the paper, coarse (1/32 of the image), trained on image labels only",
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="Sec. IV-B: sgd, which needs many more epochs")
    lr: float = Field(6.51e-4, gt=0, le=1, description="learning rate (Sec. IV-B: 1e-3 with sgd)")
    schedule: Literal["cosine", "halved"] = Field(
        "cosine", description="of the learning rate: down to 0 along a cosine, or halved after half of the epochs (Sec. IV-B)"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd, AdamW's β₁; the paper does not say")
    weight_decay: float = Field(0.00162, ge=0, le=1, description="the paper does not say")
    batch_size: int = Field(32, ge=2, le=4096, description="global batch over all workers, drawn as the data are (Sec. IV-B: 64)")
    epochs: int = Field(12, ge=1, le=100_000, description="passes over the training images (Sec. IV-B: 100)")

    @property
    def supervision_used(self) -> Supervision:
        """Of anomalous images, nothing but that they are."""
        return "image labels"
