"""Perlin noise (Perlin, SIGGRAPH 1985) and the irregular masks that are cut from it (DRAEM, MemSeg, SLSG Sec. 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

TURN = math.pi / 2  # noise is turned by up to so much either way, as in the published code of MemSeg and SLSG
CALM = math.sqrt(2)  # gradients of length one give values in ± 1/√2; times this, in ± 1


def perlin_noise(generator: Generator, scales: Tensor, size: tuple[int, int], *, largest: float) -> Tensor:
    """Smooth noise in [−1, 1], each image with a scale and a turn of its own.

    Args:
        generator: source of all draws, on the device that the noise is wanted on.
        scales: ``(B, 2)``, cells over the height and the width of the image, ≥ 1.
        size: height and width H, W in pixels.
        largest: no scale is larger; given as a number, so that nothing waits for the device.

    Returns:
        ``(B, H, W)`` float32. Where an image is turned, the cells are: their corners go on beyond the border.
    """
    device, batch = generator.device, len(scales)
    angle = TURN * (2 * torch.rand(batch, 1, 1, generator=generator, device=device) - 1)
    y, x = (((torch.arange(n, device=device) + 0.5) / n - 0.5) for n in size)
    y, x = torch.cos(angle) * y[:, None] - torch.sin(angle) * x, torch.sin(angle) * y[:, None] + torch.cos(angle) * x
    # Turned coordinates lie within ± 1/√2; counted in cells from a corner outside.
    reach = 0.75
    rows, columns = ((c + reach) * scales[:, i].to(device).view(-1, 1, 1) for i, c in enumerate((y, x)))
    corners = math.ceil(2 * reach * largest) + 2
    turn = 2 * math.pi * torch.rand(batch, corners * corners, generator=generator, device=device)
    row, column = rows.floor(), columns.floor()
    fy, fx = rows - row, columns - column

    def ramp(dy: int, dx: int) -> Tensor:
        """Dot product of a corner's gradient and the way from the corner."""
        at = ((row + dy) * corners + column + dx).long().flatten(1)
        here = turn.gather(1, at).view_as(row)
        return torch.sin(here) * (fy - dy) + torch.cos(here) * (fx - dx)

    wy, wx = _fade(fy), _fade(fx)
    upper, lower = torch.lerp(ramp(0, 0), ramp(0, 1), wx), torch.lerp(ramp(1, 0), ramp(1, 1), wx)
    return CALM * torch.lerp(upper, lower, wy)


def perlin_masks(
    generator: Generator,
    exponents: Tensor,
    threshold: Tensor,
    size: tuple[int, int],
    *,
    most: int,
    allowed: Tensor | None = None,
    least: int = 0,
) -> Tensor:
    """Irregular masks: where Perlin noise exceeds a threshold.

    Args:
        generator: source of all draws.
        exponents: ``(B,)`` int; an image has 2^i by 2^j cells with i, j uniform on {0, …, exponent}.
        threshold: ``(B,)``, in (−1, 1).
        size: height and width in pixels.
        most: no exponent is larger.
        allowed: ``(B, 1, H, W)`` bool, where the mask may lie; where an image allows nothing, everything is allowed.
        least: smallest area in pixels. A mask that falls short of it gets the highest points of its noise, in place of another
            draw: that costs no wait for the device. Where less is allowed, all that is.

    Returns:
        ``(B, 1, H, W)`` bool.
    """
    device = generator.device
    draw = torch.rand(len(exponents), 2, generator=generator, device=device)
    noise = perlin_noise(generator, 2.0 ** (draw * (exponents.to(device)[:, None] + 1)).floor(), size, largest=2.0**most)
    if allowed is not None:
        somewhere = allowed.flatten(1).any(1).view(-1, 1, 1)
        noise = torch.where(allowed[:, 0] | ~somewhere, noise, -math.inf)
    level = threshold.to(device)
    if least:
        # One beyond the last that is wanted, since a mask lies above its level; −∞ is never above it.
        level = torch.minimum(level, noise.flatten(1).topk(least + 1).values[:, -1])
    return (noise > level.view(-1, 1, 1))[:, None]


def _fade(t: Tensor) -> Tensor:
    """6t⁵ − 15t⁴ + 10t³, whose first two derivatives vanish at the corners (Perlin, SIGGRAPH 2002)."""
    return t * t * t * (t * (t * 6 - 15) + 10)
