"""Hyperparameters of DPAE. Sections, equations and tables in the descriptions are the paper's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adjobs.methods.contract import BackboneWeights, MethodConfig
from adjobs.types import BackboneName

Score = Literal["rlz", "rlx", "pl1", "pl2", "peak"]

# The values a preset sets; all others keep their defaults, and the user's own values take precedence.
PRESETS: dict[str, dict[str, object]] = {
    # As printed: pixels, eq. (9) with λ = γ = 1, affine batch normalisation of the latent vectors, Euclidean distances.
    "paper": {
        "reconstruct": "pixels",
        "latent": 32,
        "last_norm": "affine",
        "out_act": "printed",
        "align": 0.0,
        "distance": "euclidean",
        "prototype_init": "random",
        "score": "rlz",
        "optimizer": "sgd",
        "weight_decay": 5e-4,
        "epochs": 50,
    },
}


class Config(MethodConfig):
    """Defaults differ from the printed design (preset ``paper``), whose distances do not separate anomalies."""

    reconstruct: Literal["features", "pixels"] = Field(
        "features",
        description="input of the autoencoder: features of a frozen pretrained network, or the image's pixels (Sec. 3)",
    )
    backbone: BackboneName = Field(
        "tf_efficientnet_lite0", description="features: the network, of which strides 8 and 16 are used"
    )
    weights: BackboneWeights = Field("auto", description="features: its weights: auto, packaged, timm, none, a file or s3:// URI")
    feature_cache_gib: float = Field(
        4.0,
        ge=0,
        description="features: features of the training images are cached on disk up to this size, else recomputed in every step",
    )
    latent: int = Field(128, ge=16, le=1024, description="size d of the latent vectors (Fig. 6: 16 to 1024; magnetic tiles 32)")
    width: int = Field(128, ge=4, le=512, description="channels of the first convolution, the second has twice as many (Table 1)")
    slope: float = Field(0.2, ge=0, lt=1, description="negative slope of the LeakyReLU; not in the paper, GANomaly's")
    flip: bool = Field(True, description="flip training images left to right with probability 1/2 (Sec. 4.2)")
    last_norm: Literal["affine", "fixed", "none"] = Field(
        "fixed",
        description="last layer of the encoders: affine batch normalisation (Sec. 3.2), one without scale and shift, or none",
    )
    out_act: Literal["printed", "linear"] = Field(
        "linear", description="output of the decoder: through batch normalisation and LeakyReLU (Table 1), or linear"
    )
    rec_scale: float = Field(1.0, gt=0, le=1e6, description="weight of the mean squared reconstruction error, eq. (4)")
    lam: float = Field(
        1.0, ge=0, le=1e4, description="weight λ of the first prototype loss, eq. (9); unused with last_norm fixed"
    )
    gam: float = Field(
        1.0, ge=0, le=1e4, description="weight γ of the second prototype loss, eq. (9); unused with last_norm fixed"
    )
    align: float = Field(
        0.01, ge=0, le=1e4, description="weight of ‖ẑ − z‖² with z detached, which Sec. 3.3 names and eq. (9) lacks (0)"
    )
    alpha: float = Field(
        0.5,
        gt=0,
        le=1,
        description="rate of the prototypes: 1 (eq. 7) or 0.5 (center loss); without effect on the default scores",
    )
    prototype_init: Literal["zeros", "random"] = Field(
        "zeros", description="initial prototypes (Sec. 3.3: random); without effect on the default scores"
    )
    distance: Literal["euclidean", "mahalanobis"] = Field(
        "mahalanobis",
        description="distances of latent vectors, and of the residual x − x̂ at each position of the map: euclidean (eqs. 10, 4), "
        "or mahalanobis to normal training images",
    )
    shrinkage: float = Field(
        1e-3,
        gt=0,
        le=1,
        description="mahalanobis, latent vectors: fraction of the mean variance that is added to the variance of every direction",
    )
    score: Score = Field(
        "peak",
        description="image score: maximum of the map (peak), z to ẑ (rlz, Table 6), x to x̂ (rlx), z or ẑ to its prototype (pl1, "
        "pl2)",
    )
    sigma: float = Field(
        4.0, ge=0, le=32, description="Gaussian smoothing of the anomaly map, in pixels at 256 px; scales with the image"
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="optimizer (Sec. 4.2: sgd)")
    lr: float = Field(1e-3, gt=0, le=1, description="learning rate (Sec. 4.2)")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD (Sec. 4.2), β₁ of Adam")
    weight_decay: float = Field(0.0, ge=0, le=1, description="weight decay (Sec. 4.2: 5e-4 with sgd)")
    batch_size: int = Field(8, ge=2, le=1024, description="global batch over all workers (Sec. 4.2)")
    epochs: int = Field(20, ge=1, le=100_000, description="passes over the normal training images (Sec. 4.2: 50)")
