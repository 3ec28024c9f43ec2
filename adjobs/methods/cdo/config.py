"""Every number of CDO that a user may tune. Sections and equations are the paper's."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from adjobs.methods.contract import MethodConfig, Supervision
from adjobs.types import BackboneName

# What a preset changes; everything else stays at its default, and what the user sets wins.
PRESETS: dict[str, dict[str, object]] = {
    "paper": {"backbone": "hrnet_w32", "distance": "euclidean"},
    # The published code where it differs from the paper.
    "official": {"backbone": "hrnet_w32", "distance": "euclidean", "lr": 4e-4, "batch_size": 16, "loss_times_batch": True},
}


class Config(MethodConfig):
    """Defaults are the paper's, except what scores, and the backbone: the one whose weights need no network."""

    backbone: BackboneName = Field("tf_efficientnet_lite0", description="expert and apprentice; paper: hrnet_w32 (Sec. IV-A)")
    weights: str = Field("auto", description="the expert's weights: auto, packaged, timm, none, a file or s3:// URI")
    apprentice: Literal["random", "pretrained"] = Field(
        "random", description="where the apprentice starts (Sec. III-A: random); pretrained: as the expert; ours"
    )
    first: int = Field(1, ge=1, le=4, description="first hierarchy used: 1 to 4 for the strides 4, 8, 16, 32 (Sec. IV-A: 1)")
    levels: int = Field(3, ge=1, le=4, description="last hierarchy used (Sec. IV-A: 3)")
    gamma: float = Field(2.0, ge=0, le=8, description="modulation γ of eq. (7); 0 weighs all pixels alike")
    mom: bool = Field(True, description="margin optimisation: maximise discrepancy on simulated pixels, eq. (5)")
    oom: bool = Field(True, description="overlap optimisation: weigh pixels by eq. (7)")
    dist: Literal["sq", "l2"] = Field(
        "sq", description="discrepancy that is trained: squared distance (published code) or its root (eq. 3)"
    )
    rectangles: int = Field(4, ge=0, le=16, description="most rectangles per image; published code: 4; 0 simulates nothing")
    fill: Literal["uniform", "gaussian"] = Field("uniform", description="noise: published code uniform, Sec. III-C Gaussian")
    skip_background: bool = Field(
        False, description="rectangles are centred on foreground only (published code: object categories)"
    )
    use_labelled_masks: bool = Field(
        False, description="a quarter of each batch are labelled anomalies whose masks count as simulated pixels"
    )
    sigma: float = Field(4.0, ge=0, le=32, description="Gaussian smoothing of the map, pixels at 256²; scaled with the image")
    distance: Literal["mahalanobis", "euclidean"] = Field(
        "mahalanobis",
        description="what scores: how unusual what the networks differ by is at its place, in units of the spread that it has on "
        "the good training images (ours), or the discrepancy that is trained (euclidean, eq. 10)",
    )
    shrinkage: float = Field(
        0.01, gt=0, le=1, description="mahalanobis: part of the mean variance that is added to every direction's"
    )
    grid: int = Field(
        16, ge=1, le=256, description="mahalanobis: most places along a side with a spread of their own; 8 pixels each or more"
    )
    dims: int = Field(200, ge=2, le=2048, description="mahalanobis: most channels of all hierarchies; of more are drawn by lot")
    top: float = Field(
        0.0,
        ge=0,
        le=1,
        description="an image scores the mean of this share of its map, the largest; 0: the maximum (published code)",
    )
    lr: float = Field(2e-4, gt=0, le=1, description="AdamW learning rate (Sec. IV-A)")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="published code")
    lr_decay: float = Field(0.95, gt=0, le=1, description="factor on the learning rate per epoch (published code)")
    batch_size: int = Field(8, ge=2, le=1024, description="global batch over all workers (Sec. IV-A)")
    epochs: int = Field(50, ge=1, le=100_000, description="passes over the normal training images (Sec. IV-A)")
    loss_times_batch: bool = Field(False, description="multiply the loss by the batch size, as the published code does")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.first > self.levels:
            raise ValueError(f"first: got {self.first}, must not exceed levels {self.levels}")
        return self

    @property
    def supervision_used(self) -> Supervision:
        """Masks, where they count as simulated pixels."""
        return "masks" if self.use_labelled_masks else "none"
