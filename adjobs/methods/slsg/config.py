"""Hyperparameters of SLSG. Sections, equations and tables in the descriptions are the paper's."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from adjobs.methods.contract import BackboneWeights, MethodConfig, PathParam, Supervision
from adjobs.types import BackboneName

# The values a preset sets; all others keep their defaults, and the user's own values take precedence.
PRESETS: dict[str, dict[str, object]] = {
    "paper": {"pretrain": "gpt", "score": "network"},
    # The published code where it differs from the paper.
    "official": {
        "pretrain": "gpt",
        "score": "network",
        "attention": "official",
        "dilation": 3,
        "encoder_bn_train": True,
        "sum_logits": True,
        "logical_fraction": 0.58,
        "shuffled_branch": "logical",
        "foreground": "everything",
    },
}


# The parameters that the first stage depends on.
INPAINTING_PARAMS = (
    "width",
    "mask_ratio",
    "grid_size",
    "grid_unit",
    "large_masks",
    "large_mask_min",
    "large_mask_max",
    "alpha_adv",
    "alpha_rec",
    "alpha_bottleneck",
    "pretrain_lr",
    "discriminator_lr",
    "pretrain_batch_size",
    "pretrain_epochs",
)


class Config(MethodConfig):
    """Defaults are the paper's or, where it gives none, the published code's; the encoder needs no inpainting."""

    width: int = Field(
        64,
        ge=8,
        le=256,
        multiple_of=8,
        description="channels of the first layer; the last has eight times as many (ResNet18: 64)",
    )
    pretrain: Literal["backbone", "gpt", "imagenet", "none"] = Field(
        "backbone",
        description="the encoder: backbone, another network with ImageNet weights (not in the paper), gpt, trained by inpainting "
        "(Sec. 3.1), imagenet (Table 4), or none: random weights (Table 4)",
    )
    backbone: BackboneName = Field("tf_efficientnet_lite0", description="backbone: the network in the encoder's place, no HRNet")
    pretrain_from: str | None = Field(
        None,
        min_length=1,
        description="gpt: reuse the encoder of this run or model, trained on the same data, instead of inpainting again",
    )
    weights: BackboneWeights = Field(
        "auto", description="imagenet, backbone: weights: auto, packaged, timm, none, a file or s3:// URI"
    )
    # Stage 1, inpainting.
    mask_ratio: float = Field(0.8, ge=0, le=0.95, description="fraction of the grid's cells that are masked (Sec. 4.4)")
    grid_size: int = Field(
        8, ge=1, le=256, description="S: cells per side, or pixels per cell at 256 px, see grid_unit (Sec. 4.4)"
    )
    grid_unit: Literal["cells", "pixels"] = Field(
        "cells", description="what grid_size counts: cells per side (Sec. 3.1) or pixels per cell (Sec. 4.4)"
    )
    large_masks: int = Field(1, ge=0, le=8, description="random rectangles masked besides the grid; the paper gives no number")
    large_mask_min: int = Field(40, ge=1, le=256, description="shortest side of a large mask, pixels at 256 px (Sec. 4.2)")
    large_mask_max: int = Field(150, ge=1, le=256, description="longest side of a large mask, pixels at 256 px (Sec. 4.2)")
    alpha_adv: float = Field(1.0, ge=0, le=100, description="weight of the generator's adversarial loss, eq. (10)")
    alpha_rec: float = Field(0.8, ge=0, le=100, description="weight of the L1 reconstruction loss, eq. (10)")
    alpha_bottleneck: float = Field(
        1.0, ge=0, le=100, description="weight of the loss of the reconstruction from the bottleneck, eq. (10)"
    )
    pretrain_lr: float = Field(1e-3, gt=0, le=1, description="Adam's learning rate of the generator (Sec. 4.2)")
    discriminator_lr: float = Field(6e-4, gt=0, le=1, description="Adam's learning rate of the discriminator (Sec. 4.2)")
    pretrain_batch_size: int = Field(6, ge=2, le=1024, description="global batch size of the inpainting stage (Sec. 4.2)")
    pretrain_epochs: int = Field(40, ge=1, le=100_000, description="epochs of the inpainting stage (Sec. 4.2)")
    # Simulated anomalies.
    logical_fraction: float = Field(
        0.5, ge=0, le=1, description='fraction of simulated anomalies that are logical (Sec. 4.2: "the same probability")'
    )
    shuffled_fraction: float = Field(
        0.5, ge=0, le=1, description="fraction of shuffled patches within the branch that has them (MemSeg)"
    )
    shuffled_branch: Literal["structural", "logical"] = Field(
        "structural", description="the branch that has shuffled patches (Sec. 3.2: structural; published code: logical)"
    )
    mask_shape: Literal["perlin", "rectangles"] = Field("perlin", description="shape of the simulated anomalies (Table 5)")
    structural_exponent: int = Field(
        3, ge=0, le=6, description="structural: Perlin noise of up to 2^n cells per side (published code)"
    )
    logical_exponent: int = Field(2, ge=0, le=6, description="logical: Perlin noise of up to 2^n cells per side (published code)")
    structural_threshold: float = Field(0.5, gt=-1, lt=1, description="structural: anomalous where the noise exceeds this")
    logical_threshold: float = Field(0.4, gt=-1, lt=1, description="logical: anomalous where the noise exceeds this")
    structural_max_transparency: float = Field(
        0.9, ge=0, lt=1, description="structural: largest 1 − δ, uniform from 0 for three of four, 0.75 for the fourth"
    )
    logical_max_transparency: float = Field(0.25, ge=0, lt=1, description="logical: largest 1 − δ, uniform from 0")
    max_rotation: float = Field(90.0, ge=0, le=180, description="source images are rotated by up to this many degrees either way")
    textures: Annotated[str, PathParam(("drawn",))] = Field(
        "drawn", min_length=1, description="drawn, or a folder or s3:// prefix of images such as DTD (Sec. 3.2)"
    )
    texture_count: int = Field(64, ge=1, le=4096, description="number of textures; a larger folder is subsampled")
    foreground: Literal["auto", "everything", "darker", "brighter"] = Field(
        "auto",
        description="where anomalies may lie: Otsu's foreground, anywhere, or one side of foreground_level (Sec. 3.2)",
    )
    foreground_level: float = Field(0.5, gt=0, lt=1, description="darker, brighter: grey value between part and background")
    jitter: float = Field(0.1, ge=0, lt=1, description="brightness and saturation vary by ± this fraction (published code)")
    # Stage 2, segmentation.
    self_attention: bool = Field(True, description="dense relationships, eq. (2) and (3) (Table 6)")
    graph: bool = Field(True, description="sparse relationships, eq. (4) to (6) (Table 6)")
    neighbours: int = Field(9, ge=1, le=64, description="K, edges per node of the graph (Table 6: 7, 9, 11)")
    dilation: int = Field(1, ge=1, le=8, description="take every n-th of the n·K most similar nodes (published code: 3)")
    subtract_position_similarity: bool = Field(
        True, description="subtract the similarity of positions, eq. (5) (Table 6: eliminate PS)"
    )
    attention: Literal["paper", "official"] = Field(
        "paper", description="official: f and g share weights and products are not divided by √d, as in the published code"
    )
    bottleneck_skip: bool = Field(
        True, description="skip connections from the bottleneck to every depth of the decoder (Table 6)"
    )
    skip_attention: bool = Field(True, description="convolutional attention on the encoder's skip connections (published code)")
    encoder_bn_train: bool = Field(
        False, description="the frozen encoder's batch normalisation statistics keep being updated (published code)"
    )
    sum_logits: bool = Field(False, description="add the auxiliary head's logits to the decoder's (published code)")
    gamma: float = Field(4.0, ge=0, le=8, description="γ of the focal loss (Sec. 4.2)")
    alpha_focal: float = Field(0.4, ge=0, le=100, description="weight of the focal loss, eq. (11) (Table 7)")
    alpha_l1: float = Field(0.6, ge=0, le=100, description="weight of the L1 loss, eq. (11) (Table 7)")
    alpha_aux: float = Field(0.3, ge=0, le=100, description="weight of the auxiliary head's L1 loss, eq. (11) (Table 7)")
    lr: float = Field(0.04, gt=0, le=1, description="SGD's learning rate (Sec. 4.2), with cosine decay to 0 (published code)")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's momentum (published code)")
    weight_decay: float = Field(3e-5, ge=0, le=1, description="SGD's weight decay (published code)")
    batch_size: int = Field(8, ge=4, le=1024, description="global batch size, half of it with simulated anomalies (Sec. 4.2)")
    labelled_per_batch: int = Field(0, ge=0, le=1024, description="labelled anomalies added to each batch; not in the paper")
    steps: int = Field(3500, ge=1, le=10_000_000, description="optimizer steps (Sec. 4.2)")
    score: Literal["auto", "combined", "network"] = Field(
        "auto",
        description="anomaly map: network, P(anomalous) (Sec. 4.2); combined: how unusual the encoder's features are at their "
        "place, plus the network's logit, each in deviations of normal pixels; auto: combined with pretrain backbone where "
        "simulated defects show better beside the same place of normal images than beside any place of them, else network",
    )
    network_weight: float = Field(0.5, ge=0, le=8, description="combined: weight of the network's logit")
    sigma: float = Field(4.0, ge=0, le=32, description="combined: Gaussian smoothing of the distance, pixels at 256 px")
    top_pixels: int = Field(
        100, ge=1, le=65_536, description="the image score is the mean of this many highest pixels at 256 px (Sec. 4.2)"
    )

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.large_mask_min > self.large_mask_max:
            raise ValueError(f"large_mask_min: got {self.large_mask_min}, must not exceed large_mask_max {self.large_mask_max}")
        if self.backbone.startswith("hrnet"):
            raise ValueError(f"backbone: got {self.backbone}, which has no map of stride 2; give a ResNet or an EfficientNet")
        if self.pretrain_from is not None and self.pretrain != "gpt":
            raise ValueError(
                f"pretrain_from: only allowed with pretrain gpt, got pretrain {self.pretrain}; set it to gpt, or leave this out"
            )
        return self

    @property
    def is_combined(self) -> bool:
        """Whether the encoder's features count in the anomaly map. Jobs settle ``auto`` by their data, libraries by this."""
        return self.score == "combined" or (self.score == "auto" and self.pretrain == "backbone")

    @property
    def supervision_used(self) -> Supervision:
        """Masks if labelled anomalies are added to the batches, otherwise none."""
        return "masks" if self.labelled_per_batch else "none"
