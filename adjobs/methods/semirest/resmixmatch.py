"""ResMixMatch: pseudo-labels for tokens with unknown labels, and MixUp of residual tokens (after MixMatch and ReMixMatch)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from adjobs.methods.semirest.config import Config

# Pairs drawn for rejection sampling. With beta 1 all are rejected once in 10^19 times, with smaller ones less often.
REJECTION_DRAWS = 64


class Mixed(NamedTuple):
    """Mixed tokens.

    Attributes:
        residuals: ``(N, μ, μ, d)``.
        targets: ``(N, μ, μ, 2)``.
    """

    residuals: Tensor
    targets: Tensor


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """q^{1/Γ} normalised along the last dimension (MixMatch, eq. 7). Γ = 1 is the identity; Γ → 0 approaches one-hot labels."""
    powers = probabilities.pow(1 / temperature)
    return powers / powers.sum(-1, keepdim=True)


def align_distribution(probabilities: Tensor, running_prior: Tensor, anomalous_prior: float) -> Tensor:
    """Scale pseudo-labels so that their mean approaches a prior (distribution alignment: ReMixMatch, Sec. 3.1).

    Args:
        probabilities: ``(…, 2)``, normal and anomalous.
        running_prior: ``(2,)``, their running mean.
        anomalous_prior: the expected fraction of anomalous tokens, in (0, 1).
    """
    normal, anomalous = (probabilities / running_prior.clamp_min(1e-6)).unbind(-1)
    scaled = torch.stack([normal * (1 - anomalous_prior), anomalous * anomalous_prior], -1)
    return scaled / scaled.sum(-1, keepdim=True)


def mix_tokens(residuals: Tensor, targets: Tensor, known: Tensor, unknown: Tensor, config: Config, generator: Generator) -> Mixed:
    """Apply MixUp to all unknown tokens and some of the known ones; partners are drawn from both.

    Args:
        residuals: ``(N, μ, μ, d)``.
        targets: ``(N, μ, μ, 2)``, class probabilities.
        known: ``(N, μ, μ)`` bool.
        unknown: ``(N, μ, μ)`` bool.
        config: with the fraction of known tokens and β.
        generator: on the tokens' device.
    """
    drawn = torch.rand(known.shape, generator=generator, device=known.device) < config.mixup_known_fraction
    is_mixed = (unknown | (known & drawn)).flatten()[:, None]
    order = shuffle_within(known | unknown, generator)
    weight = draw_mixup_weight(config.mixup_beta, generator)
    flat = (values.flatten(0, 2) for values in (residuals, targets))
    mixed = [torch.where(is_mixed, mix_up(values, order, weight), values) for values in flat]
    return Mixed(mixed[0].view_as(residuals), mixed[1].view_as(targets))


def shuffle_within(selected: Tensor, generator: Generator) -> Tensor:
    """A permutation of all tokens, flattened, that shuffles the ``selected`` ones among each other and fixes the others."""
    flat = selected.flatten()
    keys = torch.rand(len(flat), generator=generator, device=flat.device)
    # The selected tokens first, as they come and shuffled; then the others, in both cases as they come.
    ordered = torch.where(flat, 0.0, 2.0).sort(stable=True).indices
    shuffled = torch.where(flat, keys, 2.0).sort(stable=True).indices
    return torch.empty_like(ordered).scatter_(0, ordered, shuffled)


def draw_mixup_weight(beta: float, generator: Generator) -> Tensor:
    """λ' = max(λ, 1 − λ) with λ ~ Beta(β, β), β in (0, 1]: a scalar in [0.5, 1] (MixMatch, eq. 8 and 9)."""
    # Jöhnk's algorithm: for uniform u, v with u^(1/β) + v^(1/β) ≤ 1, the first term's share of the sum has this distribution.
    u, v = torch.rand(2, REJECTION_DRAWS, generator=generator, device=generator.device).pow(1 / beta)
    first_accepted = (u + v <= 1).int().argmax()
    weight = (u / (u + v).clamp_min(1e-30))[first_accepted]
    return torch.maximum(weight, 1 - weight)


def mix_up(values: Tensor, order: Tensor, weight: Tensor) -> Tensor:
    """λ' x + (1 − λ') x', where x' are the same ``(T, …)`` values permuted by ``order``."""
    return torch.lerp(values[order], values, weight.to(values.dtype))
