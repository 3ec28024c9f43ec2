"""Every number of SemiREST that a user may tune. Sections and tables are the paper's; its code is that of the same authors."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from adjobs.data.labels.masks import BLOCK_ANOMALOUS, BLOCK_FREE, BLOCK_NORMAL
from adjobs.methods.contract import MethodConfig, Supervision
from adjobs.types import BackboneName

# What a preset changes; everything else stays at its default, and what the user sets wins.
PRESETS: dict[str, dict[str, object]] = {
    # For pictures of 512 pixels.
    "paper": {
        "backbone": "wide_resnet50_2",
        "features": 1024,
        "standardised": False,
        "loudness": None,
        "coreset": 0.1,
        "window": 32,
        "embed": 1024,
        "heads": 32,
        "lr": 1e-4,
        "steps": 3000,
        "in_boxes": None,
        "unknown_weight": 5.0,
        "unknown_apart": True,
        "mix": True,
        "refine_lr": 3e-5,
        "refine_steps": 1500,
    },
}


# What only refining with boxes and predicting depend on.
LATER = (
    "refine_normal",
    "refine_simulated",
    "refine_labelled",
    "refine_windows",
    "refine_block_anomalous",
    "refine_lr",
    "refine_steps",
    "free",
    "versions",
    "in_boxes",
    "sharpening",
    "unknown_weight",
    "unknown_apart",
    "ramp",
    "mix",
    "mixed",
    "beta",
    "dropped",
    "unknown_alpha",
    "bagging",
    "sigma",
)


class Phase(NamedTuple):
    """One part of the training with gradients.

    Attributes:
        name: of the stage.
        normal, simulated, labelled: images of a global batch.
        windows: share of their windows that is learnt from in a step.
        block_anomalous: ε+.
        lr: learning rate.
        steps: length.
        refines: whether it learns from unknown tokens, too (ResMixMatch).
    """

    name: str
    normal: int
    simulated: int
    labelled: int
    windows: float
    block_anomalous: float
    lr: float
    steps: int
    refines: bool = False


class Config(MethodConfig):
    """Defaults are the paper's, except the sizes of the networks: those whose weights need no network, for 256 pixels."""

    supervision: Literal["none", "masks", "blocks", "boxes"] = Field(
        "none", description="what labelled anomalies tell; finer labels that there are, are not looked at (Sec. V)"
    )
    unsupervised_from: str | None = Field(
        None, min_length=1, description="begin with memory and network of this unsupervised run or model of the same data"
    )
    # Features and memory (Sec. 3).
    backbone: BackboneName = Field("tf_efficientnet_lite0", description="frozen; paper: wide_resnet50_2")
    weights: str = Field("auto", description="the backbone's weights: auto, packaged, timm, none, a file or s3:// URI")
    features: int = Field(512, ge=8, le=4096, multiple_of=4, description="d_f, dimensions of a token; paper: 1024")
    standardised: bool = Field(
        True, description="features have unit deviation, so that position and residuals mean the same for every backbone; ours"
    )
    position: float = Field(0.1, ge=0, le=10, description="λ_PE, weight of the code of the position; 0 leaves it out (Table 7)")
    coreset: float = Field(0.01, gt=0, le=1, description="share of the good tokens that the memory holds; paper: 0.1")
    neighbours: int = Field(3, ge=1, le=32, description="K, residuals to each of a token's nearest ones that training draws from")
    strength: Literal["square", "abs"] = Field("square", description="what the network sees of a signed residual (Table 7)")
    loudness: float | None = Field(
        0.002,
        gt=0,
        le=100,
        description="mean of what the network sees of good tokens: small beside its biases, else its first layer norm takes away "
        "how far a token is from the memory; null: as it comes (paper); ours",
    )
    # The network and its windows.
    window: int = Field(16, ge=2, le=256, description="μ, tokens along a window's side, of 8 pixels each; paper: 32")
    step: int = Field(8, ge=1, le=256, description="tokens from one window to the next")
    bagging: bool = Field(True, description="predict with overlapping windows; else windows lie side by side: faster (Table 7)")
    embed: int = Field(128, ge=8, le=4096, description="width of the network; paper: 1024")
    depth: int = Field(4, ge=1, le=48, description="its blocks")
    heads: int = Field(4, ge=1, le=128, description="its heads; paper: 32")
    attention_window: int = Field(
        8, ge=2, le=64, description="most tokens along the side in which it attends; the window's largest divisor up to it"
    )
    mlp_ratio: float = Field(4.0, gt=0, le=16, description="width of its perceptrons over that of the network")
    # Training without labels, or with labels that say what is anomalous.
    normal: int | None = Field(None, ge=1, le=1024, description="b1, good images of a batch; null: 4, with labels 2")
    simulated: int | None = Field(None, ge=1, le=1024, description="b2, images with simulated defects; null: 2")
    labelled: int | None = Field(None, ge=1, le=1024, description="b3, labelled anomalies (masks, blocks); null: 2")
    windows: float = Field(0.25, gt=0, le=1, description="p, share of a batch's windows that is learnt from (published table)")
    block_anomalous: float | None = Field(
        None, gt=0, le=1, description=f"ε+, least share of defect in an anomalous token; null: 0.5, with labels {BLOCK_ANOMALOUS}"
    )
    block_normal: float = Field(BLOCK_NORMAL, ge=0, lt=1, description="ε−, largest share of defect in a normal token")
    lr: float = Field(1e-3, gt=0, le=1, description="AdamW's learning rate; paper, for its larger network: 1e-4")
    steps: int = Field(1000, ge=1, le=10_000_000, description="length; the paper does not say, its preset: 3000")
    # Refining with boxes (ResMixMatch).
    refine_normal: int = Field(3, ge=1, le=1024, description="boxes: b1, good images of a batch")
    refine_simulated: int = Field(3, ge=1, le=1024, description="boxes: b2, images with simulated defects")
    refine_labelled: int = Field(2, ge=1, le=1024, description="boxes: b3, images with boxes")
    refine_windows: float = Field(0.1, gt=0, le=1, description="boxes: p, share of a batch's windows that is learnt from")
    refine_block_anomalous: float = Field(BLOCK_ANOMALOUS, gt=0, le=1, description="boxes: ε+ of simulated defects")
    refine_lr: float = Field(3e-4, gt=0, le=1, description="boxes: AdamW's learning rate; paper: 3e-5")
    refine_steps: int = Field(250, ge=1, le=10_000_000, description="boxes: length; the paper does not say, its preset: 1500")
    free: float = Field(BLOCK_FREE, gt=0, le=1, description="least share of a normal token that lies outside all boxes")
    versions: int = Field(3, ge=1, le=16, description="M, augmented versions whose mean answer is the guess of unknown tokens")
    in_boxes: float | None = Field(
        0.8,
        gt=0,
        lt=1,
        description="share of unknown tokens that guesses call anomalous on the whole: what a defect fills of its box (of an "
        "ellipse's: 0.79); null: as it comes (paper)",
    )
    sharpening: float = Field(0.5, ge=0.01, le=1, description="Γ, temperature of the guess")
    unknown_weight: float = Field(1.0, ge=0, le=100, description="λ_u, weight of unknown tokens; paper: 5, on BTAD 10")
    unknown_apart: bool = Field(
        False, description="their loss is a mean of their own, however few they are (paper); else each weighs λ_u known ones"
    )
    ramp: int = Field(400, ge=1, le=10_000_000, description="steps in which that weight grows from 0")
    mix: bool = Field(False, description="mix unknown tokens, and some of the known ones, with others (paper)")
    mixed: float = Field(0.25, ge=0, le=1, description="mix: α, share of the known tokens that stay mixed; our reading")
    beta: float = Field(0.75, ge=0.1, le=1, description="mix: both parameters of the Beta distribution of the mix (MixMatch)")
    dropped: float = Field(0.5, ge=0, lt=1, description="v, largest share of tokens that are hidden in a step; our reading")
    # Augmentation and loss.
    first: float = Field(0.5, ge=0, le=1, description="a1, chance of the nearest neighbour's residual")
    second: float = Field(0.8, ge=0, le=1, description="a2, chance of one of the two nearest; else one of the others")
    noise: float = Field(0.2, ge=0, le=4, description="variance of the log of the multiplicative noise, cut at ± ln 1.25")
    noise_tokens: float = Field(0.5, ge=0, le=1, description="share of tokens with noise (published code)")
    noise_dims: float = Field(0.5, ge=0, le=1, description="share of their dimensions with noise (published code)")
    gamma: float = Field(4.0, ge=0, le=8, description="γ of the focal loss")
    alpha: float = Field(0.25, gt=0, lt=1, description="α_x of the focal loss: weight of anomalous tokens; normal ones: 1 − α_x")
    unknown_alpha: float = Field(0.75, gt=0, lt=1, description="α_u, the same for unknown tokens by their guess")
    weight_decay: float = Field(0.05, ge=0, le=1, description="AdamW's (published code)")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the mean of the weights that predicts (published code)")
    # Simulated defects (Sec. V, as MemSeg).
    exponent: int = Field(5, ge=0, le=6, description="up to 2^n Perlin cells over a side (published code)")
    shuffled: float = Field(0.5, ge=0, le=1, description="share of defects that are the picture's own patches, shuffled")
    faint: float = Field(0.5, ge=0, lt=1, description="defects keep up to this share of the picture: opacity 0.5 to 1")
    textures: str = Field("drawn", min_length=1, description="drawn, or a folder or s3:// prefix of pictures such as DTD")
    texture_count: int = Field(64, ge=1, le=4096, description="textures used in all; of more pictures so many are drawn")
    sigma: float = Field(4.0, ge=0, le=32, description="Gaussian smoothing of the map in pixels, half a token (Sec. V)")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.labelled is not None and self.supervision not in ("masks", "blocks"):
            raise ValueError(f"labelled: got {self.labelled} with supervision {self.supervision}; leave it out")
        if self.step > self.window:
            raise ValueError(
                f"step: got {self.step}, must not exceed window {self.window}, or tokens between windows are left out"
            )
        reach = self.reach(self.window)
        if 2 * reach < min(self.window, self.attention_window):
            raise ValueError(
                f"window: got {self.window}, in which attention would see {reach} × {reach} tokens, its largest divisor up to "
                f"attention_window {self.attention_window}; choose a multiple of {self.attention_window}"
            )
        if self.embed % self.heads:
            raise ValueError(f"heads: got {self.heads}, must divide embed {self.embed}")
        if self.first > self.second:
            raise ValueError(f"first: got {self.first}, must not exceed second {self.second}")
        for phase in self.phases:
            if self.block_normal >= phase.block_anomalous:
                raise ValueError(f"block_normal: got {self.block_normal}, must be below block_anomalous {phase.block_anomalous}")
        return self

    def reach(self, side: int) -> int:
        """Tokens along the side in which the network attends in a window of this side: a divisor, or the rest would be padded."""
        return max(n for n in range(1, min(self.attention_window, side) + 1) if side % n == 0)

    @property
    def supervision_used(self) -> Supervision:
        """What is chosen."""
        return self.supervision

    @property
    def phases(self) -> list[Phase]:
        """What is trained, in order; numbers of the paper's table of settings where they are not given."""
        with_labels = self.supervision in ("masks", "blocks")
        learn = Phase(
            name="learn",
            normal=self.normal or (2 if with_labels else 4),
            simulated=self.simulated or 2,
            labelled=(self.labelled or 2) if with_labels else 0,
            windows=self.windows,
            block_anomalous=self.block_anomalous or (BLOCK_ANOMALOUS if with_labels else 0.5),
            lr=self.lr,
            steps=self.steps,
        )
        if self.supervision != "boxes":
            return [learn]
        refine = Phase(
            name="refine",
            normal=self.refine_normal,
            simulated=self.refine_simulated,
            labelled=self.refine_labelled,
            windows=self.refine_windows,
            block_anomalous=self.refine_block_anomalous,
            lr=self.refine_lr,
            steps=self.refine_steps,
            refines=True,
        )
        return [refine] if self.unsupervised_from is not None else [learn, refine]
