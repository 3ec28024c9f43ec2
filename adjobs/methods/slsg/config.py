"""Every number of SLSG that a user may tune. Sections, equations and tables are the paper's."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from adjobs.methods.contract import MethodConfig, Supervision

# What a preset changes; everything else stays at its default, and what the user sets wins.
PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    # The published code where it differs from the paper.
    "official": {
        "attention": "official",
        "dilation": 3,
        "encoder_bn_train": True,
        "sum_logits": True,
        "logical": 0.58,
        "shuffled_is": "logical",
        "foreground": "everything",
    },
}


# What the first stage depends on.
INPAINTING = (
    "width",
    "mask_ratio",
    "cells",
    "grid_mode",
    "large_masks",
    "large_min",
    "large_max",
    "alpha_adv",
    "alpha_rec",
    "alpha_bottleneck",
    "pretrain_lr",
    "discriminator_lr",
    "pretrain_batch_size",
    "pretrain_epochs",
)


class Config(MethodConfig):
    """Defaults are the paper's; where it is silent, the published code's."""

    width: int = Field(
        64,
        ge=8,
        le=256,
        multiple_of=8,
        description="channels of the first layer, the last has eight times as many (ResNet18: 64)",
    )
    pretrain: Literal["gpt", "imagenet", "none"] = Field(
        "gpt", description="where the encoder comes from: inpainting (Sec. 3.1), ImageNet, or random weights (Table 4)"
    )
    pretrain_from: str | None = Field(
        None,
        min_length=1,
        description="gpt: take the encoder of this run or model of the same data in place of another inpainting",
    )
    weights: str = Field("auto", description="imagenet: the weights of ResNet18: auto, timm, none, a file or s3:// URI")
    # Stage 1, inpainting.
    mask_ratio: float = Field(0.8, ge=0, le=0.95, description="share of the grid's cells that are masked (Sec. 4.4)")
    cells: int = Field(8, ge=1, le=256, description="S: cells per side, or with grid_mode: pixels their size at 256² (Sec. 4.4)")
    grid_mode: Literal["cells", "pixels"] = Field(
        "cells", description="whether 8 × 8 means the cells of the grid (Sec. 3.1) or the pixels of a cell (Sec. 4.4)"
    )
    large_masks: int = Field(1, ge=0, le=8, description="random rectangles masked beside the grid; the paper gives no number")
    large_min: int = Field(40, ge=1, le=256, description="shortest side of these, pixels at 256² (Sec. 4.2)")
    large_max: int = Field(150, ge=1, le=256, description="longest side of these, pixels at 256² (Sec. 4.2)")
    alpha_adv: float = Field(1.0, ge=0, le=100, description="weight of the adversarial loss of the generator, eq. (10)")
    alpha_rec: float = Field(0.8, ge=0, le=100, description="weight of the L1 reconstruction, eq. (10)")
    alpha_bottleneck: float = Field(1.0, ge=0, le=100, description="weight of the reconstruction from the bottleneck, eq. (10)")
    pretrain_lr: float = Field(1e-3, gt=0, le=1, description="Adam's learning rate of the generator (Sec. 4.2)")
    discriminator_lr: float = Field(6e-4, gt=0, le=1, description="Adam's learning rate of the discriminator (Sec. 4.2)")
    pretrain_batch_size: int = Field(6, ge=2, le=1024, description="global batch of the inpainting (Sec. 4.2)")
    pretrain_epochs: int = Field(40, ge=1, le=100_000, description="passes over the normal images to inpaint (Sec. 4.2)")
    # Simulated anomalies.
    logical: float = Field(0.5, ge=0, le=1, description='share of logical anomalies (Sec. 4.2: "the same probability")')
    shuffled: float = Field(0.5, ge=0, le=1, description="share of shuffled patches in the branch that has them; MemSeg's")
    shuffled_is: Literal["structural", "logical"] = Field(
        "structural", description="the branch in which patches are shuffled (Sec. 3.2: structural; published code: logical)"
    )
    noise: Literal["perlin", "rectangles"] = Field("perlin", description="shape of the anomalies (Table 5)")
    structural_exponent: int = Field(3, ge=0, le=6, description="structural: up to 2^n Perlin cells over a side (published code)")
    logical_exponent: int = Field(2, ge=0, le=6, description="logical: up to 2^n Perlin cells over a side (published code)")
    structural_threshold: float = Field(0.5, gt=-1, lt=1, description="structural: anomalous where the noise exceeds it")
    logical_threshold: float = Field(0.4, gt=-1, lt=1, description="logical: anomalous where the noise exceeds it")
    faint: float = Field(0.9, ge=0, lt=1, description="1 − δ of structural anomalies: three quarters keep up to this much")
    logical_faint: float = Field(0.25, ge=0, lt=1, description="1 − δ of logical anomalies: they keep up to this much")
    rotation: float = Field(90.0, ge=0, le=180, description="other pictures are turned by up to so many degrees either way")
    textures: str = Field(
        "drawn", min_length=1, description="drawn, or a folder or s3:// prefix of pictures such as DTD (Sec. 3.2)"
    )
    texture_count: int = Field(64, ge=1, le=4096, description="textures used in all; of more pictures so many are drawn")
    foreground: Literal["auto", "everything", "darker", "brighter"] = Field(
        "auto", description="where anomalies may lie: Otsu's foreground, everywhere, or one side of foreground_level (Sec. 3.2)"
    )
    foreground_level: float = Field(0.5, gt=0, lt=1, description="darker, brighter: grey value between part and background")
    jitter: float = Field(0.1, ge=0, lt=1, description="brightness and saturation vary by ± this share (published code)")
    # Stage 2, segmentation.
    self_attention: bool = Field(True, description="dense relations, eq. (2) and (3) (Table 6)")
    graph: bool = Field(True, description="sparse relations, eq. (4) to (6) (Table 6)")
    neighbours: int = Field(9, ge=1, le=64, description="K of the graph (Table 6: 7, 9, 11)")
    dilation: int = Field(1, ge=1, le=8, description="every n-th of the n·K most similar nodes (published code: 3)")
    position_free: bool = Field(True, description="subtract the similarity of positions, eq. (5) (Table 6: eliminate PS)")
    attention: Literal["paper", "official"] = Field(
        "paper", description="official: f and g are one, and the products are not divided by √d, as in the published code"
    )
    bottleneck_skip: bool = Field(True, description="the bottleneck reaches the decoder at every depth (Table 6)")
    skip_attention: bool = Field(True, description="a small attention on the encoder's skips (published code)")
    encoder_bn_train: bool = Field(False, description="the frozen encoder's batch statistics go on moving (published code)")
    sum_logits: bool = Field(False, description="add the auxiliary head's logits to the decoder's (published code)")
    gamma: float = Field(4.0, ge=0, le=8, description="γ of the focal loss (Sec. 4.2)")
    alpha_focal: float = Field(0.4, ge=0, le=100, description="weight of the focal loss, eq. (11) (Table 7)")
    alpha_l1: float = Field(0.6, ge=0, le=100, description="weight of the L1 loss, eq. (11) (Table 7)")
    alpha_aux: float = Field(0.3, ge=0, le=100, description="weight of the auxiliary head's L1 loss, eq. (11) (Table 7)")
    lr: float = Field(0.04, gt=0, le=1, description="SGD's (Sec. 4.2), falling to 0 along a cosine (published code)")
    momentum: float = Field(0.9, ge=0, lt=1, description="published code")
    weight_decay: float = Field(3e-5, ge=0, le=1, description="published code")
    batch_size: int = Field(8, ge=4, le=1024, description="global batch, half of it simulated anomalies (Sec. 4.2)")
    labelled: int = Field(0, ge=0, le=1024, description="labelled anomalies in each batch beside these; not in the paper")
    steps: int = Field(3500, ge=1, le=10_000_000, description="iterations (Sec. 4.2)")
    top: int = Field(
        100, ge=1, le=65_536, description="an image scores the mean of so many pixels at 256², the largest (Sec. 4.2)"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.large_min > self.large_max:
            raise ValueError(f"large_min: got {self.large_min}, must not exceed large_max {self.large_max}")
        if self.pretrain_from is not None and self.pretrain != "gpt":
            raise ValueError(f"pretrain_from: got one with pretrain {self.pretrain}; leave one of them out")
        return self

    @property
    def supervision_used(self) -> Supervision:
        """Masks, where labelled anomalies are in the batches."""
        return "masks" if self.labelled else "none"
