"""Which pixels show the part, so that simulated anomalies do not lie on the background (MemSeg; SLSG Sec. 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 256
SMALLEST, LARGEST = 0.05, 0.95  # shares of the picture between which a foreground is believed
# Least share of the grey values' variance that lies between the classes. The best cut of a Gaussian has 2/π = 0.64, of a uniform
# distribution 0.75: what does not exceed these has one kind of grey, not two.
SEPARATE = 0.8


def otsu_foreground(images: Tensor) -> Tensor:
    """Foreground by Otsu's threshold on grey (IEEE Trans. SMC 1979): the side of it that fewer border pixels are on.

    A textile or a plate fills its picture: where the foreground would be less than 5 % or more than 95 %, or the grey values do
    not fall into two kinds, all of it counts.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].

    Returns:
        ``(B, 1, H, W)`` bool.
    """
    level = (_grey(images) * (LEVELS - 1)).round().long()
    threshold, separation = _cuts(level)
    bright = level > threshold.view(-1, 1, 1)
    border = torch.cat([bright[:, 0], bright[:, -1], bright[:, :, 0], bright[:, :, -1]], 1)
    light_background = border.float().mean(1) > 0.5
    found = bright != light_background.view(-1, 1, 1)
    share = found.float().mean((1, 2))
    everything = (share < SMALLEST) | (share > LARGEST) | (separation < SEPARATE)
    return (found | everything.view(-1, 1, 1))[:, None]


def level_foreground(images: Tensor, level: float, *, brighter: bool) -> Tensor:
    """Foreground where the grey of ``(B, 3, H, W)`` images is on one side of a level in (0, 1), ``(B, 1, H, W)`` bool."""
    above = _grey(images) > level
    return (above if brighter else ~above)[:, None]


def _grey(images: Tensor) -> Tensor:
    return (0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]).clamp(0, 1)


def _cuts(level: Tensor) -> tuple[Tensor, Tensor]:
    """Otsu's threshold of each of ``(B, H, W)`` pictures, in levels, and his η, the share of variance between classes."""
    flat = level.flatten(1)
    histogram = torch.zeros(len(flat), LEVELS, device=flat.device).scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float))
    share = histogram / flat.shape[1]
    below = share.cumsum(1)
    grey = torch.arange(LEVELS, device=flat.device)
    moment = (share * grey).cumsum(1)
    mean = moment[:, -1:]
    between = (mean * below - moment).square() / (below * (1 - below)).clamp_min(1e-6)
    most = between.max(1)
    variance = (share * (grey - mean).square()).sum(1)
    return most.indices, most.values / variance.clamp_min(1e-6)
