"""SemiREST's focal loss on soft labels, and means over the tokens of all workers."""

from __future__ import annotations

import torch
from torch import Tensor

from adjobs.data.labels.masks import ANOMALOUS, NORMAL
from adjobs.nn.distributed import global_sum


def soft_focal_loss(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017) for soft labels: −w (1 − p_t)^γ log p_t with p_t = Σ_c p_c q_c.

    The weight w is α where q favours anomalous, else 1 − α.

    Args:
        logits: ``(…, 2)``, normal and anomalous.
        targets: ``(…, 2)``, q, summing to 1.
        alpha: weight of anomalous tokens, in (0, 1).
        gamma: γ ≥ 0.

    Returns:
        ``(…)``, at least in float32.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_p, targets = logits.to(dtype).log_softmax(-1), targets.to(dtype)
    # log Σ p q computed in log space: p underflows in float32 where the network is certain and wrong.
    log_p_t = (log_p + targets.log()).logsumexp(-1)
    weight = torch.where(targets[..., 1] > targets[..., 0], alpha, 1 - alpha)
    return -weight * (1 - log_p_t.exp()).clamp_min(0).pow(gamma) * log_p_t


def masked_mean(values: Tensor, selected: Tensor, normalise_by: Tensor | None = None) -> Tensor:
    """Mean of the ``selected`` values of all workers; 0 where there are none.

    Args:
        values: any shape.
        selected: bool, of the same shape.
        normalise_by: bool; divide the sum by the number of these instead.
    """
    count = global_sum((selected if normalise_by is None else normalise_by).sum().to(values.dtype))
    return global_sum((values * selected).sum()) / count.clamp_min(1)


def separation(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Mean P(anomalous) of the normal and of the anomalous tokens, which training should drive apart."""
    probability = logits.detach().float().softmax(-1)[..., 1]
    return {
        "p_normal": masked_mean(probability, labels == NORMAL),
        "p_anomalous": masked_mean(probability, labels == ANOMALOUS),
    }
