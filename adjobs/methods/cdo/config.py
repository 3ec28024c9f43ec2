"""Hyperparameters of CDO. Sections and equations in the descriptions are the paper's."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from adjobs.methods.contract import BackboneWeights, MethodConfig, Supervision
from adjobs.types import BackboneName

# The values a preset sets; all others keep their defaults, and the user's own values take precedence.
PRESETS: dict[str, dict[str, object]] = {
    "paper": {"backbone": "hrnet_w32", "distance": "euclidean"},
    # The published code where it differs from the paper.
    "official": {"backbone": "hrnet_w32", "distance": "euclidean", "lr": 4e-4, "batch_size": 16, "loss_times_batch": True},
}


class Config(MethodConfig):
    """Defaults are the paper's, except for the distance and the backbone, whose weights need no download."""

    backbone: BackboneName = Field("tf_efficientnet_lite0", description="expert and apprentice; paper: hrnet_w32 (Sec. IV-A)")
    weights: BackboneWeights = Field("auto", description="the expert's weights: auto, packaged, timm, none, a file or s3:// URI")
    apprentice: Literal["random", "pretrained"] = Field(
        "random", description="initial weights of the apprentice: random (Sec. III-A) or the expert's (not in the paper)"
    )
    first_level: int = Field(
        1, ge=1, le=4, description="first feature level used: 1 to 4 for the strides 4, 8, 16, 32 (Sec. IV-A: 1)"
    )
    last_level: int = Field(3, ge=1, le=4, description="last feature level used (Sec. IV-A: 3)")
    gamma: float = Field(2.0, ge=0, le=8, description="modulation γ of eq. (7); 0 weighs all pixels alike")
    mom: bool = Field(True, description="margin optimisation: maximise the discrepancy on simulated pixels, eq. (5)")
    oom: bool = Field(True, description="overlap optimisation: weigh pixels by eq. (7)")
    discrepancy: Literal["sq", "l2"] = Field(
        "sq", description="discrepancy that is trained: sq, the squared distance (published code), or l2, its root (eq. 3)"
    )
    rectangles: int = Field(
        4, ge=0, le=16, description="maximum number of rectangles per image (published code: 4); 0 simulates nothing"
    )
    fill: Literal["uniform", "gaussian"] = Field(
        "uniform", description="noise in the rectangles: uniform (published code) or gaussian (Sec. III-C)"
    )
    skip_background: bool = Field(
        False, description="centre rectangles on the foreground only (published code, for object categories)"
    )
    use_labelled_masks: bool = Field(
        False, description="a quarter of each batch are labelled anomalies, whose masks count as simulated pixels"
    )
    sigma: float = Field(
        4.0, ge=0, le=32, description="Gaussian smoothing of the anomaly map, in pixels at 256 px; scales with the image"
    )
    distance: Literal["auto", "mahalanobis", "nearest", "euclidean"] = Field(
        "auto",
        description="distance that scores: mahalanobis, between the networks' difference at a position and its distribution "
        "there on normal training images (not in the paper), nearest, between it and the nearest one anywhere on them (not in "
        "the paper), auto, the one of these two that shows defects simulated on them better, or euclidean, the trained "
        "discrepancy (eq. 10)",
    )
    shrinkage: float = Field(
        0.01,
        gt=0,
        le=1,
        description="mahalanobis: fraction of the mean variance that is added to the variance of every direction",
    )
    grid: int = Field(
        16, ge=1, le=256, description="mahalanobis: maximum number of Gaussians per side of the image, each for 8 pixels or more"
    )
    max_channels: int = Field(
        200, ge=2, le=2048, description="mahalanobis, nearest: maximum number of channels of all levels; more are subsampled"
    )
    coreset_ratio: float = Field(
        0.01,
        gt=0,
        le=1,
        description="nearest: fraction of the differences on normal training images that are kept; 500 to 16,384",
    )
    top_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="the image score is the mean over this fraction of the map's pixels, the highest; 0: the maximum (code)",
    )
    lr: float = Field(2e-4, gt=0, le=1, description="AdamW's learning rate (Sec. IV-A)")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="AdamW's weight decay (published code)")
    lr_decay: float = Field(0.95, gt=0, le=1, description="factor on the learning rate per epoch (published code)")
    batch_size: int = Field(8, ge=2, le=1024, description="global batch over all workers (Sec. IV-A)")
    epochs: int = Field(50, ge=1, le=100_000, description="passes over the normal training images (Sec. IV-A)")
    loss_times_batch: bool = Field(False, description="multiply the loss by the batch size, as the published code does")

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.first_level > self.last_level:
            raise ValueError(f"first_level: got {self.first_level}; must not exceed last_level {self.last_level}")
        return self

    @property
    def supervision_used(self) -> Supervision:
        """Masks, if they count as simulated pixels."""
        return "masks" if self.use_labelled_masks else "none"
