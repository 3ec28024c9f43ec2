"""SLSG's losses of the segmentation, eq. (11), over the pixels of which something is known in all workers' images."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def focal(logits: Tensor, masks: Tensor, gamma: float) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017) of each pixel, without class weights.

    Args:
        logits: ``(B, 2, H, W)``, normal and anomalous.
        masks: ``(B, 1, H, W)`` bool, True where anomalous.
        gamma: γ ≥ 0, how much less pixels count that are already told.

    Returns:
        ``(B, 1, H, W)``.
    """
    # p of the right class is the logistic function of the margin by which its logit leads.
    margin = torch.where(masks, 1.0, -1.0) * (logits[:, 1:] - logits[:, :1])
    return torch.sigmoid(-margin).pow(gamma) * F.softplus(-margin)


def absolute(logits: Tensor, masks: Tensor) -> Tensor:
    """|P(anomalous) − mask| of each pixel, ``(B, 1, H, W)``."""
    return (probability(logits) - masks.to(logits.dtype)).abs()


def probability(logits: Tensor) -> Tensor:
    """P(anomalous) of ``(B, 2, H, W)`` logits, ``(B, 1, H, W)``."""
    return torch.sigmoid(logits[:, 1:] - logits[:, :1])


def mean_where(values: Tensor, known: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean of ``(B, 1, H, W)`` values over the pixels ``known``; ``total`` sums over all workers. 0 where nothing is known."""
    count = total(known.sum().to(values.dtype))
    return total((values * known).sum()) / count.clamp_min(1)
