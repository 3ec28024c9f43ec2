"""Every number of DPAE that a user may tune. Sections, equations and tables are the paper's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adjobs.methods.contract import MethodConfig
from adjobs.types import BackboneName

Score = Literal["rlz", "rlx", "pl1", "pl2", "peak"]

# What a preset changes; everything else stays at its default, and what the user sets wins.
PRESETS: dict[str, dict[str, object]] = {
    # As printed: pixels, eq. (9) with λ = γ = 1, latent vectors behind an affine batch normalisation, Euclidean distances.
    "paper": {
        "reconstruct": "pixels",
        "latent": 32,
        "last_norm": "affine",
        "out_act": "printed",
        "align": 0.0,
        "distance": "euclidean",
        "prototype_init": "random",
        "optimizer": "sgd",
        "weight_decay": 5e-4,
        "epochs": 50,
    },
}


class Config(MethodConfig):
    """Defaults are a change of the printed design (preset ``paper``) under which its distances tell something."""

    reconstruct: Literal["features", "pixels"] = Field(
        "features", description="what is encoded and decoded: maps of a frozen pretrained network, or the picture (Sec. 3)"
    )
    backbone: BackboneName = Field("tf_efficientnet_lite0", description="features: the network, its maps of strides 8 and 16")
    weights: str = Field("auto", description="features: its weights: auto, packaged, timm, none, a file or s3:// URI")
    feature_cache_gib: float = Field(
        4.0,
        ge=0,
        description="features: maps of a training part are kept on disk if they need no more GiB, else made anew",
    )
    latent: int = Field(128, ge=16, le=1024, description="size d of the latent vectors (Fig. 6: 16 to 1024; magnetic tiles 32)")
    width: int = Field(128, ge=4, le=512, description="channels of the first convolution, the second has twice as many (Table 1)")
    slope: float = Field(0.2, ge=0, lt=1, description="negative slope of the LeakyReLU; not in the paper, GANomaly's")
    flip: bool = Field(True, description="mirror training images left to right with a chance of one half (Sec. 4.2)")
    last_norm: Literal["affine", "fixed", "none"] = Field(
        "fixed", description="last layer of the encoders: affine batch normalisation (Sec. 3.2), one that keeps the scale 1, none"
    )
    out_act: Literal["printed", "linear"] = Field(
        "linear", description="end of the decoder: batch normalisation and LeakyReLU (Table 1), or nothing"
    )
    rec_scale: float = Field(1.0, gt=0, le=1e6, description="weight of the mean squared reconstruction error, eq. (4)")
    lam: float = Field(1.0, ge=0, le=1e4, description="weight λ of the first prototype loss, eq. (9); idle if last_norm is fixed")
    gam: float = Field(
        1.0, ge=0, le=1e4, description="weight γ of the second prototype loss, eq. (9); idle if last_norm is fixed"
    )
    align: float = Field(
        0.01, ge=0, le=1e4, description="weight of ‖ẑ − z‖², z held still; named in Sec. 3.3 but not in eq. (9): 0"
    )
    alpha: float = Field(
        0.5, gt=0, le=1, description="rate of the prototypes, eq. (7): 1 to the letter, 0.5 center loss's; idle with the defaults"
    )
    prototype_init: Literal["zeros", "random"] = Field(
        "zeros", description="first prototypes (Sec. 3.3: random); idle with the defaults"
    )
    distance: Literal["euclidean", "mahalanobis"] = Field(
        "mahalanobis", description="of latent vectors: as printed, eq. (10), or in units of their spread over normal images"
    )
    shrinkage: float = Field(
        1e-3, gt=0, le=1, description="mahalanobis: part of the mean variance that is added to every direction's"
    )
    score: Score = Field(
        "rlz", description="image score: z to ẑ, x to x̂, z or ẑ to its prototype (Table 6: rlz), peak of the map"
    )
    sigma: float = Field(4.0, ge=0, le=32, description="Gaussian smoothing of the map, pixels at 256²; scaled with the image")
    optimizer: Literal["adam", "sgd"] = Field("adam", description="Sec. 4.2: sgd")
    lr: float = Field(1e-3, gt=0, le=1, description="learning rate (Sec. 4.2)")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD (Sec. 4.2); Adam's β₁")
    weight_decay: float = Field(0.0, ge=0, le=1, description="Sec. 4.2: 5e-4 with sgd")
    batch_size: int = Field(8, ge=2, le=1024, description="global batch over all workers (Sec. 4.2)")
    epochs: int = Field(20, ge=1, le=100_000, description="passes over the normal training images (Sec. 4.2: 50)")
