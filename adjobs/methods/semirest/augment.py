"""Augmentation of residuals in training: random nearest neighbour, multiplicative noise, token dropout (SemiREST, Sec. 4)."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from adjobs.methods.semirest.config import Config

MAX_LOG_NOISE = math.log(1.25)  # published code


def draw_neighbour(indices: Tensor, config: Config, generator: Generator) -> Tensor:
    """Draw one of the ``(…, K)`` nearest neighbours of each token, ``(…)``.

    The first is drawn with probability a1, the second with a2 − a1, otherwise any of the others with equal probability.
    """
    draw = torch.rand(indices.shape[:-1], generator=generator, device=indices.device)
    count = indices.shape[-1]
    nearest, two_nearest = config.nearest_probability, config.two_nearest_probability
    further = (draw - two_nearest) / max(1 - two_nearest, 1e-6) * max(count - 2, 1)
    rank = torch.where(draw < nearest, 0, torch.where(draw < two_nearest, 1, 2 + further.long()))
    return indices.gather(-1, rank.clamp(0, count - 1).unsqueeze(-1)).squeeze(-1)


def add_noise(residuals: Tensor, config: Config, generator: Generator) -> Tensor:
    """Multiply some dimensions of some of ``(…, d)`` residuals by e^z with a clipped normal z."""
    if not config.noise_variance:
        return residuals

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=residuals.device)

    z = torch.randn(residuals.shape, generator=generator, device=residuals.device) * math.sqrt(config.noise_variance)
    noisy_tokens = uniform(*residuals.shape[:-1], 1) < config.noise_token_fraction
    noisy = noisy_tokens & (uniform(*residuals.shape) < config.noise_dim_fraction)
    return residuals * torch.where(noisy, z.clamp(-MAX_LOG_NOISE, MAX_LOG_NOISE).exp(), 1.0)


def draw_dropout(shape: torch.Size, max_fraction: float, generator: Generator) -> Tensor:
    """Bool mask of the tokens to drop; their expected fraction is itself drawn, uniform on [0, ``max_fraction``]."""
    probability = max_fraction * torch.rand((), generator=generator, device=generator.device)
    return torch.rand(shape, generator=generator, device=generator.device) < probability
