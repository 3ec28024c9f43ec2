"""Perlin noise (Perlin, SIGGRAPH 1985) and irregular masks cut from it (DRAEM, MemSeg, SLSG Sec. 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

MAX_ROTATION = math.pi / 2  # the noise is rotated by up to this much either way, as in the published code of MemSeg and SLSG
AMPLITUDE = math.sqrt(2)  # gradients of length one give values in ± 1/√2; times this, in ± 1


def perlin_noise(generator: Generator, scales: Tensor, size: tuple[int, int], *, max_scale: float) -> Tensor:
    """Smooth noise in [−1, 1], with its own scale and rotation for each image.

    Args:
        generator: on the device on which the noise is drawn.
        scales: ``(B, 2)``, cells per height and width of the image, ≥ 1.
        size: height and width H, W in pixels.
        max_scale: upper bound of ``scales``, as a number so that the device is not synchronised to read it.

    Returns:
        ``(B, H, W)`` float32. The cells are rotated with the image; their corners continue beyond its border.
    """
    device, batch = generator.device, len(scales)
    angle = MAX_ROTATION * (2 * torch.rand(batch, 1, 1, generator=generator, device=device) - 1)
    y, x = (((torch.arange(n, device=device) + 0.5) / n - 0.5) for n in size)
    y, x = torch.cos(angle) * y[:, None] - torch.sin(angle) * x, torch.sin(angle) * y[:, None] + torch.cos(angle) * x
    # Rotated coordinates lie within ± 1/√2; they are counted in cells from a corner outside of that.
    reach = 0.75
    rows, columns = ((c + reach) * scales[:, i].to(device).view(-1, 1, 1) for i, c in enumerate((y, x)))
    corners = math.ceil(2 * reach * max_scale) + 2
    directions = 2 * math.pi * torch.rand(batch, corners * corners, generator=generator, device=device)
    row, column = rows.floor(), columns.floor()
    fy, fx = rows - row, columns - column

    def ramp(dy: int, dx: int) -> Tensor:
        """Dot product of a corner's gradient and the offset from that corner."""
        corner = ((row + dy) * corners + column + dx).long().flatten(1)
        direction = directions.gather(1, corner).view_as(row)
        return torch.sin(direction) * (fy - dy) + torch.cos(direction) * (fx - dx)

    wy, wx = _fade(fy), _fade(fx)
    upper, lower = torch.lerp(ramp(0, 0), ramp(0, 1), wx), torch.lerp(ramp(1, 0), ramp(1, 1), wx)
    return AMPLITUDE * torch.lerp(upper, lower, wy)


def perlin_masks(
    generator: Generator,
    exponents: Tensor,
    thresholds: Tensor,
    size: tuple[int, int],
    *,
    max_exponent: int,
    allowed: Tensor | None = None,
    min_area: int = 0,
) -> Tensor:
    """Irregular masks: where Perlin noise exceeds a threshold.

    Args:
        generator: on the device on which the masks are drawn.
        exponents: ``(B,)`` int; an image has 2^i by 2^j cells with i, j uniform on {0, …, exponent}.
        thresholds: ``(B,)``, in (−1, 1).
        size: height and width in pixels.
        max_exponent: upper bound of ``exponents``.
        allowed: ``(B, 1, H, W)`` bool, where the mask may lie; an image for which this is empty is unrestricted.
        min_area: smallest area in pixels. A smaller mask is replaced by the highest pixels of its noise instead of drawing again,
            which would synchronise the device. Where fewer pixels are allowed, all of them are masked.

    Returns:
        ``(B, 1, H, W)`` bool.
    """
    device = generator.device
    draw = torch.rand(len(exponents), 2, generator=generator, device=device)
    scales = 2.0 ** (draw * (exponents.to(device)[:, None] + 1)).floor()
    noise = perlin_noise(generator, scales, size, max_scale=2.0**max_exponent)
    if allowed is not None:
        is_restricted = allowed.flatten(1).any(1).view(-1, 1, 1)
        noise = torch.where(allowed[:, 0] | ~is_restricted, noise, -math.inf)
    levels = thresholds.to(device)
    if min_area:
        # The level is exclusive, hence one rank further; −∞ never exceeds it.
        levels = torch.minimum(levels, noise.flatten(1).topk(min_area + 1).values[:, -1])
    return (noise > levels.view(-1, 1, 1))[:, None]


def _fade(t: Tensor) -> Tensor:
    """6t⁵ − 15t⁴ + 10t³, whose first two derivatives vanish at the corners (Perlin, SIGGRAPH 2002)."""
    return t * t * t * (t * (t * 6 - 15) + 10)
