"""How residuals are varied in training: another near neighbour, multiplicative noise, hidden tokens (SemiREST, Sec. 4)."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from adjobs.methods.semirest.config import Config

LIMIT = math.log(1.25)  # of the logarithm of the noise (published code)


def drawn_neighbour(indices: Tensor, config: Config, generator: Generator) -> Tensor:
    """One of the ``(…, K)`` neighbours of each token: the first by a chance a1, the second by a2 − a1, else any of the others."""
    draw = torch.rand(indices.shape[:-1], generator=generator, device=indices.device)
    count = indices.shape[-1]
    rest = (draw - config.second) / max(1 - config.second, 1e-6) * max(count - 2, 1)
    which = torch.where(draw < config.first, 0, torch.where(draw < config.second, 1, 2 + rest.long()))
    return indices.gather(-1, which.clamp(0, count - 1).unsqueeze(-1)).squeeze(-1)


def noisy(residuals: Tensor, config: Config, generator: Generator) -> Tensor:
    """Some dimensions of some of ``(…, d)`` residuals, times e^z with a normal z that is cut off."""
    if not config.noise:
        return residuals

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=residuals.device)

    z = torch.randn(residuals.shape, generator=generator, device=residuals.device) * math.sqrt(config.noise)
    tokens = uniform(*residuals.shape[:-1], 1) < config.noise_tokens
    where = tokens & (uniform(*residuals.shape) < config.noise_dims)
    return residuals * torch.where(where, z.clamp(-LIMIT, LIMIT).exp(), 1.0)


def hidden(shape: torch.Size, most: float, generator: Generator) -> Tensor:
    """Which tokens are hidden in a step, bool of that shape: each by one chance, drawn from 0 to ``most``."""
    chance = most * torch.rand((), generator=generator, device=generator.device)
    return torch.rand(shape, generator=generator, device=generator.device) < chance
