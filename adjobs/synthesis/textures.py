"""Procedural textures, for when no folder of textures (such as DTD) is given: sources of simulated structural anomalies.

Five families with different spectra: fractal noise (isotropic, many scales), stripes (one direction), checks (two directions,
hard edges), Gabor patches (local waves) and cells (closed regions; Worley, SIGGRAPH 1996).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from adjobs.synthesis.perlin import perlin_noise

MAX_SEEDS = 48  # of a cellular texture
WAVES = 24  # of a Gabor texture
GRAIN = 0.03  # standard deviation of the pixel noise


def draw_textures(generator: Generator, count: int, size: tuple[int, int]) -> Tensor:
    """Draw coloured textures of random families.

    Args:
        generator: on the device on which the textures are drawn.
        count: B ≥ 1.
        size: height and width H, W in pixels.

    Returns:
        ``(B, 3, H, W)`` float32 in [0, 1].
    """
    families = list(FAMILIES.values())
    choices = torch.randint(len(families), (count,), generator=generator, device=generator.device).tolist()
    patterns = torch.stack([families[choice](generator, size) for choice in choices])
    return _colourise(generator, patterns)


def fractal_pattern(generator: Generator, size: tuple[int, int]) -> Tensor:
    """Perlin noise of five octaves, ``(H, W)`` in [0, 1]."""
    scale = float(_uniform_scalar(generator, 1, 6))
    octaves = [
        perlin_noise(generator, torch.full((1, 2), scale * 2**i), size, max_scale=scale * 2**i)[0] / 2**i for i in range(5)
    ]
    return _rescale(torch.stack(octaves).sum(0))


def stripe_pattern(generator: Generator, size: tuple[int, int]) -> Tensor:
    """Slightly bent parallel stripes with soft to hard edges, ``(H, W)`` in [0, 1]."""
    _, x = _rotated_coordinates(generator, size)
    bend = perlin_noise(generator, torch.full((1, 2), 2.0), size, max_scale=2)[0] * _uniform_scalar(generator, 0, 0.08)
    wave = torch.sin(2 * math.pi * _uniform_scalar(generator, 4, 40) * (x + bend))
    return torch.sigmoid(wave * _uniform_scalar(generator, 1, 12))


def check_pattern(generator: Generator, size: tuple[int, int]) -> Tensor:
    """A rotated chessboard of rectangles, ``(H, W)`` of 0 and 1."""
    y, x = _rotated_coordinates(generator, size)
    rows, columns = _uniform_scalar(generator, 4, 24), _uniform_scalar(generator, 4, 24)
    return ((y * rows).floor() + (x * columns).floor()).remainder(2)


def gabor_pattern(generator: Generator, size: tuple[int, int]) -> Tensor:
    """Waves of one frequency under Gaussian windows with random positions, directions and phases, ``(H, W)`` in [0, 1]."""
    y, x = _rotated_coordinates(generator, size)
    draw = _uniform(generator, WAVES, 4).view(WAVES, 4, 1, 1)
    dy, dx = y - (draw[:, 0] - 0.5), x - (draw[:, 1] - 0.5)
    angle, phase = math.pi * draw[:, 2], 2 * math.pi * draw[:, 3]
    along = torch.cos(angle) * dx + torch.sin(angle) * dy
    window = torch.exp(-(dx.square() + dy.square()) / (2 * _uniform_scalar(generator, 0.05, 0.15) ** 2))
    waves = window * torch.cos(2 * math.pi * _uniform_scalar(generator, 6, 24) * along + phase)
    return _rescale(waves.sum(0))


def cell_pattern(generator: Generator, size: tuple[int, int]) -> Tensor:
    """Cells around random seeds, ``(H, W)`` in [0, 1]: distance to the second nearest minus the nearest seed, 0 at borders."""
    y, x = _rotated_coordinates(generator, size)
    seeds = 1.5 * _uniform(generator, MAX_SEEDS, 2).view(MAX_SEEDS, 2, 1, 1) - 0.75
    # A random number of seeds, by moving the others far away: shapes stay static on every device.
    is_used = torch.arange(MAX_SEEDS, device=seeds.device) < _uniform_scalar(generator, 8, MAX_SEEDS)
    distance = ((y - seeds[:, 0]).square() + (x - seeds[:, 1]).square()).sqrt() + (~is_used).view(-1, 1, 1) * 10
    nearest = distance.topk(2, 0, largest=False).values
    return _rescale(nearest[1] - nearest[0])


FAMILIES: dict[str, Callable[[Generator, tuple[int, int]], Tensor]] = {
    "fractal": fractal_pattern,
    "stripes": stripe_pattern,
    "checks": check_pattern,
    "gabor": gabor_pattern,
    "cells": cell_pattern,
}


def _colourise(generator: Generator, patterns: Tensor) -> Tensor:
    """Interpolate between two random colours by each of ``(B, H, W)`` patterns, and add some grain."""
    low, high = _uniform(generator, 2, len(patterns), 3, 1, 1).unbind(0)
    coloured = torch.lerp(low, high, patterns[:, None])
    grain = torch.randn(coloured.shape, generator=generator, device=coloured.device)
    return (coloured + GRAIN * grain).clamp(0, 1)


def _rotated_coordinates(generator: Generator, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Coordinates y, x from the centre in units of the longer side, ``(H, W)`` each, rotated by a random angle."""
    longest = max(size)
    y, x = (((torch.arange(n, device=generator.device) + 0.5 - n / 2) / longest) for n in size)
    angle = 2 * math.pi * _uniform(generator, 1)
    return torch.cos(angle) * y[:, None] - torch.sin(angle) * x, torch.sin(angle) * y[:, None] + torch.cos(angle) * x


def _rescale(values: Tensor) -> Tensor:
    """Map the range of the values to [0, 1]."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(1e-6)


def _uniform(generator: Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _uniform_scalar(generator: Generator, low: float, high: float) -> Tensor:
    """A zero-dimensional tensor, uniform in [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator, device=generator.device)
