"""SemiREST's focal loss on soft labels, and the parts of ResMixMatch that are plain functions."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

DRAWS = 64  # of which the first that is accepted is taken; none is once in 10^19 where beta is 1, and less often below


def soft_focal(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017) of soft labels: −w (1 − p_t)^γ log p_t with p_t = Σ_c p_c q_c.

    The weight w is α where q says anomalous, else 1 − α.

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
    # log Σ p q without leaving the logarithm: p may be 0 in float32 where the network is sure and wrong.
    log_right = (log_p + targets.log()).logsumexp(-1)
    weight = torch.where(targets[..., 1] > targets[..., 0], alpha, 1 - alpha)
    return -weight * (1 - log_right.exp()).clamp_min(0).pow(gamma) * log_right


def sharpened(probabilities: Tensor, temperature: float) -> Tensor:
    """q^{1/Γ} over its sum, along the last dimension (MixMatch, eq. 7): Γ = 1 changes nothing, Γ → 0 gives the likeliest."""
    powers = probabilities.pow(1 / temperature)
    return powers / powers.sum(-1, keepdim=True)


def aligned(probabilities: Tensor, usual: Tensor, share: float) -> Tensor:
    """Guesses moved so that on the whole a ``share`` of them is anomalous (distribution alignment: ReMixMatch, Sec. 3.1).

    Args:
        probabilities: ``(…, 2)``, normal and anomalous.
        usual: ``(2,)``, their running mean.
        share: of anomalous ones, in (0, 1).
    """
    moved = probabilities * probabilities.new_tensor([1 - share, share]) / usual.clamp_min(1e-6)
    return moved / moved.sum(-1, keepdim=True)


def share_of_mix(beta: float, generator: Generator) -> Tensor:
    """λ' = max(λ, 1 − λ) with λ ~ Beta(β, β), β in (0, 1]: a scalar in [0.5, 1] (MixMatch, eq. 8 and 9)."""
    # Jöhnk's: of uniform u, v with u^(1/β) + v^(1/β) ≤ 1 the share of the first is distributed so.
    u, v = torch.rand(2, DRAWS, generator=generator, device=generator.device).pow(1 / beta)
    first = (u + v <= 1).int().argmax()
    share = (u / (u + v).clamp_min(1e-30))[first]
    return torch.maximum(share, 1 - share)


def mixed(values: Tensor, order: Tensor, share: Tensor) -> Tensor:
    """λ' x + (1 − λ') x' where x' are the same ``(T, …)`` values in another order."""
    return torch.lerp(values[order], values, share.to(values.dtype))
