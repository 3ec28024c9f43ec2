"""SLSG's segmentation losses, eq. (11), averaged over the pixels with a known label of all workers' images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adjobs.nn.distributed import global_sum


def focal_loss(logits: Tensor, masks: Tensor, gamma: float) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017) of each pixel, without class weights.

    Args:
        logits: ``(B, 2, H, W)``, normal and anomalous.
        masks: ``(B, 1, H, W)`` bool, True where anomalous.
        gamma: γ ≥ 0; the larger, the less do pixels count that are already classified correctly.

    Returns:
        ``(B, 1, H, W)``.
    """
    # The probability of the true class is the logistic function of the margin of its logit.
    margin = torch.where(masks, 1.0, -1.0) * (logits[:, 1:] - logits[:, :1])
    return torch.sigmoid(-margin).pow(gamma) * F.softplus(-margin)


def l1_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """|P(anomalous) − mask| of each pixel, ``(B, 1, H, W)``."""
    return (anomaly_probability(logits) - masks.to(logits.dtype)).abs()


def anomaly_probability(logits: Tensor) -> Tensor:
    """P(anomalous) of ``(B, 2, H, W)`` logits, ``(B, 1, H, W)``."""
    return torch.sigmoid(anomaly_logit(logits))


def anomaly_logit(logits: Tensor) -> Tensor:
    """Logit of P(anomalous), of ``(B, 2, H, W)`` logits, ``(B, 1, H, W)``."""
    return logits[:, 1:] - logits[:, :1]


def masked_mean(values: Tensor, selected: Tensor) -> Tensor:
    """Mean of ``(B, 1, H, W)`` values over the ``selected`` pixels of all workers; 0 where none is selected."""
    count = global_sum(selected.sum().to(values.dtype))
    return global_sum((values * selected).sum()) / count.clamp_min(1)
