"""Every number of LIAC that a user may tune. Sections, equations and tables are the paper's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adjobs.methods.contract import MethodConfig
from adjobs.types import BackboneName

Loss = Literal["logit_inducing", "weighted_ce", "focal", "asymmetric", "logit_adjustment", "encouraging"]

# What a preset changes; everything else stays at its default, and what the user sets wins.
PRESETS: dict[str, dict[str, object]] = {
    "paper": {"backbone": "resnet34"},
}


class Config(MethodConfig):
    """Defaults are the paper's, except the backbone: the one whose weights need no network (preset ``paper``: resnet34)."""

    backbone: BackboneName = Field("tf_efficientnet_lite0", description="both networks; paper: resnet34 (Sec. IV-B)")
    weights: str = Field("auto", description="their first weights: auto, packaged, timm, none, a file or s3:// URI")
    student_init: Literal["pretrained", "random"] = Field(
        "pretrained", description="where the second network starts (Sec. IV-B: pretrained)"
    )
    couple: bool = Field(True, description="two networks and their distance; false: one, as the paper's baselines have")
    loss: Loss = Field("logit_inducing", description="classification loss; all but logit_inducing are the paper's baselines")
    floor: float | None = Field(
        None,
        ge=0,
        le=100,
        description="logit beyond the margin at which logit_inducing lets go of an anomaly; null: never, eq. (4)",
    )
    acl: bool = Field(True, description="abnormality capturing loss, eq. (11); false: Fig. 7's ablation")
    w_acl: float = Field(1.0, gt=0, le=100, description="weight λ of the abnormality capturing loss; eq. (13): 1")
    acl_sign: Literal["corrected", "as_printed"] = Field(
        "corrected", description="corrected: anomalies are driven apart; as_printed: eq. (11) to the letter, the reverse"
    )
    norm: Literal["l2", "l2sq"] = Field(
        "l2", description="features divided by their length, or by its square as eq. (10) is printed"
    )
    focal_gamma: float = Field(2.0, ge=0, le=8, description="exponent γ of loss focal and asymmetric (Lin et al. 2017: 2)")
    focal_alpha: float = Field(0.25, gt=0, lt=1, description="weight of anomalies in loss focal (Lin et al. 2017: 0.25)")
    heat_map: bool = Field(
        False,
        description="give class activation maps; not in the paper, coarse (1/32 of the image), trained on image labels only",
    )
    lr: float = Field(1e-3, gt=0, le=1, description="SGD learning rate, halved after half of the epochs (Sec. IV-B)")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD; the paper does not say")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="of SGD; the paper does not say")
    clip_norm: float | None = Field(None, gt=0, description="largest gradient norm of a step; the paper has none")
    batch_size: int = Field(64, ge=2, le=4096, description="global batch over all workers, drawn as the data are (Sec. IV-B)")
    epochs: int = Field(100, ge=1, le=100_000, description="passes over the training images (Sec. IV-B)")
