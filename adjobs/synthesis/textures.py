"""Textures drawn from nothing, where no folder of textures (such as DTD) is given: sources of simulated structural anomalies.

Five families that differ in what a filter would see of them: fractal noise (no direction, many scales), stripes (one direction),
checks (two directions, hard edges), Gabor patches (local waves) and cells (closed regions, Worley, SIGGRAPH 1996).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from adjobs.synthesis.perlin import perlin_noise

SEEDS = 48  # most points of a cellular texture
WAVES = 24  # of a Gabor texture


def textures(generator: Generator, count: int, size: tuple[int, int]) -> Tensor:
    """Coloured textures, each of a random family.

    Args:
        generator: source of all draws, on the device that the textures are wanted on.
        count: how many, B ≥ 1.
        size: height and width H, W in pixels.

    Returns:
        ``(B, 3, H, W)`` float32 in [0, 1].
    """
    families = list(FAMILIES.values())
    kind = torch.randint(len(families), (count,), generator=generator, device=generator.device).tolist()
    pattern = torch.stack([families[k](generator, size) for k in kind])
    return _coloured(generator, pattern)


def fractal(generator: Generator, size: tuple[int, int]) -> Tensor:
    """Perlin noise of five octaves, ``(H, W)`` in [0, 1]."""
    first = float(_between(generator, 1, 6))
    octaves = [perlin_noise(generator, torch.full((1, 2), first * 2**i), size, largest=first * 2**i)[0] / 2**i for i in range(5)]
    return _stretched(torch.stack(octaves).sum(0))


def stripes(generator: Generator, size: tuple[int, int]) -> Tensor:
    """Stripes of one direction, bent a little, between soft and hard edges."""
    _, x = _turned(generator, size)
    bend = perlin_noise(generator, torch.full((1, 2), 2.0), size, largest=2)[0] * _between(generator, 0, 0.08)
    wave = torch.sin(2 * math.pi * _between(generator, 4, 40) * (x + bend))
    return torch.sigmoid(wave * _between(generator, 1, 12))


def checks(generator: Generator, size: tuple[int, int]) -> Tensor:
    """A turned chessboard of rectangles."""
    y, x = _turned(generator, size)
    rows, columns = _between(generator, 4, 24), _between(generator, 4, 24)
    return ((y * rows).floor() + (x * columns).floor()).remainder(2)


def gabor(generator: Generator, size: tuple[int, int]) -> Tensor:
    """Waves of one frequency under Gaussian windows, each with a place, a direction and a phase of its own."""
    y, x = _turned(generator, size)
    at = _uniform(generator, WAVES, 4).view(WAVES, 4, 1, 1)
    dy, dx = y - (at[:, 0] - 0.5), x - (at[:, 1] - 0.5)
    angle, phase = math.pi * at[:, 2], 2 * math.pi * at[:, 3]
    along = torch.cos(angle) * dx + torch.sin(angle) * dy
    window = torch.exp(-(dx.square() + dy.square()) / (2 * _between(generator, 0.05, 0.15) ** 2))
    waves = window * torch.cos(2 * math.pi * _between(generator, 6, 24) * along + phase)
    return _stretched(waves.sum(0))


def cells(generator: Generator, size: tuple[int, int]) -> Tensor:
    """Cells around random points: how much farther the second nearest point is than the nearest, which is 0 at borders."""
    y, x = _turned(generator, size)
    at = 1.5 * _uniform(generator, SEEDS, 2).view(SEEDS, 2, 1, 1) - 0.75
    # A random number of the points, by moving the others far away: sizes stay what they are on every device.
    kept = torch.arange(SEEDS, device=at.device) < _between(generator, 8, SEEDS)
    distance = ((y - at[:, 0]).square() + (x - at[:, 1]).square()).sqrt() + (~kept).view(-1, 1, 1) * 10
    nearest = distance.topk(2, 0, largest=False).values
    return _stretched(nearest[1] - nearest[0])


FAMILIES: dict[str, Callable[[Generator, tuple[int, int]], Tensor]] = {
    "fractal": fractal,
    "stripes": stripes,
    "checks": checks,
    "gabor": gabor,
    "cells": cells,
}


def _coloured(generator: Generator, pattern: Tensor) -> Tensor:
    """Each ``(H, W)`` pattern as a way between two colours, with a little grain."""
    low, high = _uniform(generator, 2, len(pattern), 3, 1, 1).unbind(0)
    mixed = torch.lerp(low, high, pattern[:, None])
    grain = torch.randn(mixed.shape, generator=generator, device=mixed.device)
    return (mixed + 0.03 * grain).clamp(0, 1)


def _turned(generator: Generator, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Coordinates from the centre in units of the longer side, ``(H, W)`` each, turned by a random angle."""
    longest = max(size)
    y, x = (((torch.arange(n, device=generator.device) + 0.5 - n / 2) / longest) for n in size)
    angle = 2 * math.pi * _uniform(generator, 1)
    return torch.cos(angle) * y[:, None] - torch.sin(angle) * x, torch.sin(angle) * y[:, None] + torch.cos(angle) * x


def _stretched(values: Tensor) -> Tensor:
    """To [0, 1], from the least to the largest."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(1e-6)


def _uniform(generator: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _between(generator: Generator, low: float, high: float) -> Tensor:
    """A number in [low, high), as a tensor without dimensions."""
    return low + (high - low) * torch.rand((), generator=generator, device=generator.device)
