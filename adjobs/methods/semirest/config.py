"""Hyperparameters of SemiREST. Sections and tables in the descriptions are the paper's, published code is its authors'."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from adjobs.data.labels.masks import BLOCK_ANOMALOUS, BLOCK_FREE, BLOCK_NORMAL
from adjobs.methods.contract import BackboneWeights, MethodConfig, PathParam, Supervision
from adjobs.types import BackboneName

# The values a preset sets; all others keep their defaults, and the user's own values take precedence.
PRESETS: dict[str, dict[str, object]] = {
    # For images of 512 pixels.
    "paper": {
        "backbone": "wide_resnet50_2",
        "feature_dim": 1024,
        "standardise_features": False,
        "target_mean_residual": None,
        "coreset_ratio": 0.1,
        "window": 32,
        "embed_dim": 1024,
        "heads": 32,
        "lr": 1e-4,
        "steps": 3000,
        "score": "network",
        "box_anomalous_prior": None,
        "unknown_weight": 5.0,
        "separate_unknown_mean": True,
        "mixup": True,
        "refine_lr": 3e-5,
        "refine_steps": 1500,
    },
}


# The parameters that have no effect before the refinement stage, and those that have none before prediction.
REFINE_ONLY = (
    "refine_normal_per_batch",
    "refine_simulated_per_batch",
    "refine_labelled_per_batch",
    "refine_window_fraction",
    "refine_min_defect_anomalous",
    "refine_lr",
    "refine_steps",
    "min_outside_boxes",
    "pseudo_label_views",
    "box_anomalous_prior",
    "sharpening_temperature",
    "unknown_weight",
    "separate_unknown_mean",
    "ramp_up_steps",
    "mixup",
    "mixup_known_fraction",
    "mixup_beta",
    "token_dropout",
    "unknown_alpha",
)
PREDICT_ONLY = ("bagging", "sigma", "score")


class Phase(NamedTuple):
    """Settings of one stage that trains the network.

    Attributes:
        name: of the stage.
        normal, simulated, labelled: images per global batch (b1, b2, b3).
        window_fraction: fraction of a batch's windows that a step trains on (p).
        min_defect_anomalous: least fraction of defect in an anomalous token (ε+).
        lr: learning rate.
        steps: optimizer steps.
        is_refinement: also learns from tokens with unknown labels (ResMixMatch).
    """

    name: str
    normal: int
    simulated: int
    labelled: int
    window_fraction: float
    min_defect_anomalous: float
    lr: float
    steps: int
    is_refinement: bool = False


class Config(MethodConfig):
    """Defaults are the paper's except for the network sizes, which suit packaged weights and images of 256 pixels."""

    supervision: Literal["none", "masks", "blocks", "boxes"] = Field(
        "none", description="labels of anomalies to learn from; more detailed ones are coarsened to these (Sec. V)"
    )
    unsupervised_from: str | None = Field(
        None, min_length=1, description="start from memory bank and network of this unsupervised run or model of the same data"
    )
    # Features and memory bank (Sec. 3).
    backbone: BackboneName = Field("tf_efficientnet_lite0", description="frozen; paper: wide_resnet50_2")
    weights: BackboneWeights = Field("auto", description="its weights: auto, packaged, timm, none, a file or s3:// URI")
    feature_dim: int = Field(512, ge=8, le=4096, multiple_of=4, description="d_f, dimensions of a token; paper: 1024")
    standardise_features: bool = Field(
        True,
        description="scale features to unit deviation, so that position_weight and residuals do not depend on the backbone; ours",
    )
    position_weight: float = Field(0.1, ge=0, le=10, description="λ_PE, weight of the position code; 0 disables it (Table 7)")
    coreset_ratio: float = Field(0.01, gt=0, le=1, description="fraction of normal tokens kept in the memory bank; paper: 0.1")
    neighbours: int = Field(3, ge=1, le=32, description="K, nearest neighbours of a token from which training draws one")
    residual_distance: Literal["square", "abs"] = Field(
        "square", description="element-wise distance: square or absolute value of the residual (Table 7)"
    )
    target_mean_residual: float | None = Field(
        0.002,
        gt=0,
        le=100,
        description="scale the network's input to this mean on normal tokens. If that is not small compared with the biases, the "
        "first layer norm removes the distance to the memory bank; null: unscaled (paper); ours",
    )
    # The network and its windows.
    window: int = Field(16, ge=2, le=256, description="μ, tokens per window side, of 8 pixels each; paper: 32")
    window_stride: int = Field(8, ge=1, le=256, description="s, tokens from one window to the next")
    bagging: bool = Field(
        True, description="predict with overlapping windows and average; false: adjacent windows, which is faster (Table 7)"
    )
    score: Literal["combined", "network"] = Field(
        "combined",
        description="anomaly map: combined: the distance to the memory bank plus the network's logit, each in deviations "
        "of normal tokens (ours); network: its probability (paper)",
    )
    embed_dim: int = Field(128, ge=8, le=4096, description="embedding dimensions of the network; paper: 1024")
    depth: int = Field(4, ge=1, le=48, description="transformer blocks")
    heads: int = Field(4, ge=1, le=128, description="attention heads; paper: 32")
    attention_window: int = Field(
        8,
        ge=2,
        le=64,
        description="tokens per side of Swin's attention window, at most: the largest divisor of the window is used",
    )
    mlp_ratio: float = Field(4.0, gt=0, le=16, description="hidden dimensions of the MLPs, relative to embed_dim")
    # Training without labels, or with labels that mark anomalous pixels.
    normal_per_batch: int | None = Field(
        None, ge=1, le=1024, description="b1, normal images per batch; null: 4, or 2 with masks or blocks"
    )
    simulated_per_batch: int | None = Field(
        None, ge=1, le=1024, description="b2, images with simulated defects per batch; null: 2"
    )
    labelled_per_batch: int | None = Field(
        None, ge=1, le=1024, description="masks, blocks: b3, labelled anomalies per batch; null: 2"
    )
    window_fraction: float = Field(
        0.25, gt=0, le=1, description="p, fraction of a batch's windows that a step trains on (published table)"
    )
    min_defect_anomalous: float | None = Field(
        None,
        gt=0,
        le=1,
        description=f"ε+, least fraction of defect in an anomalous token; null: 0.5, or {BLOCK_ANOMALOUS} with masks or blocks",
    )
    max_defect_normal: float = Field(BLOCK_NORMAL, ge=0, lt=1, description="ε−, largest fraction of defect in a normal token")
    lr: float = Field(1e-3, gt=0, le=1, description="AdamW's learning rate; paper, for its larger network: 1e-4")
    steps: int = Field(1000, ge=1, le=10_000_000, description="optimizer steps; the paper gives no number, preset paper: 3000")
    # Refinement with boxes (ResMixMatch).
    refine_normal_per_batch: int = Field(3, ge=1, le=1024, description="boxes: b1, normal images per batch")
    refine_simulated_per_batch: int = Field(3, ge=1, le=1024, description="boxes: b2, images with simulated defects per batch")
    refine_labelled_per_batch: int = Field(2, ge=1, le=1024, description="boxes: b3, images with boxes per batch")
    refine_window_fraction: float = Field(
        0.1, gt=0, le=1, description="boxes: p, fraction of a batch's windows that a step trains on"
    )
    refine_min_defect_anomalous: float = Field(BLOCK_ANOMALOUS, gt=0, le=1, description="boxes: ε+ of simulated defects")
    refine_lr: float = Field(3e-4, gt=0, le=1, description="boxes: AdamW's learning rate; paper: 3e-5")
    refine_steps: int = Field(
        250, ge=1, le=10_000_000, description="boxes: optimizer steps; the paper gives no number, preset paper: 1500"
    )
    min_outside_boxes: float = Field(
        BLOCK_FREE, gt=0, le=1, description="boxes: least fraction of a normal token that lies outside all boxes"
    )
    pseudo_label_views: int = Field(
        3, ge=1, le=16, description="boxes: M, augmented views whose mean prediction is the pseudo-label of unknown tokens"
    )
    box_anomalous_prior: float | None = Field(
        0.8,
        gt=0,
        lt=1,
        description="boxes: align pseudo-labels so that on average this fraction is anomalous: what a defect fills of its box "
        "(an ellipse: 0.79); null: not aligned (paper)",
    )
    sharpening_temperature: float = Field(0.5, ge=0.01, le=1, description="boxes: Γ, sharpening temperature of pseudo-labels")
    unknown_weight: float = Field(
        1.0, ge=0, le=100, description="boxes: λ_u, weight of the loss of unknown tokens; paper: 5, on BTAD 10"
    )
    separate_unknown_mean: bool = Field(
        False,
        description="boxes: average the loss of unknown tokens over these alone, however few they are (paper); false: over the "
        "known ones, so that an unknown token weighs λ_u known ones",
    )
    ramp_up_steps: int = Field(400, ge=1, le=10_000_000, description="boxes: steps in which λ_u grows from 0, linearly")
    mixup: bool = Field(False, description="boxes: apply MixUp to unknown tokens and some of the known ones (paper)")
    mixup_known_fraction: float = Field(
        0.25, ge=0, le=1, description="mixup: α, fraction of the known tokens that are mixed; our interpretation"
    )
    mixup_beta: float = Field(0.75, ge=0.1, le=1, description="mixup: both parameters of the Beta distribution (MixMatch)")
    token_dropout: float = Field(
        0.5, ge=0, lt=1, description="boxes: v, largest fraction of tokens dropped in a step; our interpretation"
    )
    # Augmentation and loss.
    nearest_probability: float = Field(
        0.5, ge=0, le=1, description="a1, probability that the residual to the nearest neighbour is used"
    )
    two_nearest_probability: float = Field(
        0.8, ge=0, le=1, description="a2, probability that one of the two nearest is used; otherwise one of the others"
    )
    noise_variance: float = Field(
        0.2, ge=0, le=4, description="variance of the log of the multiplicative noise, which is clipped to ± ln 1.25"
    )
    noise_token_fraction: float = Field(0.5, ge=0, le=1, description="fraction of tokens with noise (published code)")
    noise_dim_fraction: float = Field(0.5, ge=0, le=1, description="fraction of their dimensions with noise (published code)")
    gamma: float = Field(4.0, ge=0, le=8, description="γ of the focal loss")
    alpha: float = Field(
        0.25, gt=0, lt=1, description="α_x of the focal loss: weight of anomalous tokens; of normal ones 1 − α_x"
    )
    unknown_alpha: float = Field(0.75, gt=0, lt=1, description="boxes: α_u, the same for unknown tokens, by pseudo-label")
    weight_decay: float = Field(0.05, ge=0, le=1, description="AdamW's weight decay (published code)")
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="decay of the moving average of weights that predicts (published code)"
    )
    # Simulated defects (Sec. V, as in MemSeg).
    perlin_exponent: int = Field(5, ge=0, le=6, description="defects have the shape of Perlin noise of up to 2^n cells per side")
    shuffled_fraction: float = Field(0.5, ge=0, le=1, description="fraction of defects made of shuffled patches")
    max_transparency: float = Field(0.5, ge=0, lt=1, description="largest transparency of a defect, uniform from 0")
    textures: Annotated[str, PathParam(("drawn",))] = Field(
        "drawn", min_length=1, description="drawn, or a folder or s3:// prefix of images such as DTD"
    )
    texture_count: int = Field(64, ge=1, le=4096, description="number of textures; a larger folder is subsampled")
    sigma: float = Field(4.0, ge=0, le=32, description="Gaussian smoothing of the anomaly map in pixels, half a token (Sec. V)")

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.labelled_per_batch is not None and self.supervision not in ("masks", "blocks"):
            raise ValueError(
                f"labelled_per_batch: only allowed with supervision masks or blocks, got {self.supervision}; leave it out"
            )
        if self.window_stride > self.window:
            raise ValueError(
                f"window_stride: got {self.window_stride}, must not exceed window {self.window}, or tokens would be skipped"
            )
        side = self.attention_side(self.window)
        if 2 * side < min(self.window, self.attention_window):
            raise ValueError(
                f"window: got {self.window}, which limits attention to {side} × {side} tokens, its largest divisor up to "
                f"attention_window {self.attention_window}; choose a multiple of {self.attention_window}"
            )
        if self.embed_dim % self.heads:
            raise ValueError(f"heads: got {self.heads}, must divide embed_dim {self.embed_dim}")
        if self.nearest_probability > self.two_nearest_probability:
            raise ValueError(
                f"nearest_probability: got {self.nearest_probability}, must not exceed two_nearest_probability "
                f"{self.two_nearest_probability}"
            )
        for phase in self.phases:
            if self.max_defect_normal >= phase.min_defect_anomalous:
                raise ValueError(
                    f"max_defect_normal: got {self.max_defect_normal}, must be below min_defect_anomalous "
                    f"{phase.min_defect_anomalous}"
                )
        return self

    def attention_side(self, window_side: int) -> int:
        """Tokens per side of the attention window: a divisor of ``window_side``, since timm would otherwise pad."""
        return max(n for n in range(1, min(self.attention_window, window_side) + 1) if window_side % n == 0)

    @property
    def supervision_used(self) -> Supervision:
        """The supervision as configured."""
        return self.supervision

    @property
    def phases(self) -> list[Phase]:
        """The stages that train the network, in order; null parameters take the values of the paper's table of settings."""
        is_supervised = self.supervision in ("masks", "blocks")
        learn = Phase(
            name="learn",
            normal=self.normal_per_batch or (2 if is_supervised else 4),
            simulated=self.simulated_per_batch or 2,
            labelled=(self.labelled_per_batch or 2) if is_supervised else 0,
            window_fraction=self.window_fraction,
            min_defect_anomalous=self.min_defect_anomalous or (BLOCK_ANOMALOUS if is_supervised else 0.5),
            lr=self.lr,
            steps=self.steps,
        )
        if self.supervision != "boxes":
            return [learn]
        refine = Phase(
            name="refine",
            normal=self.refine_normal_per_batch,
            simulated=self.refine_simulated_per_batch,
            labelled=self.refine_labelled_per_batch,
            window_fraction=self.refine_window_fraction,
            min_defect_anomalous=self.refine_min_defect_anomalous,
            lr=self.refine_lr,
            steps=self.refine_steps,
            is_refinement=True,
        )
        return [refine] if self.unsupervised_from is not None else [learn, refine]
