"""Foreground masks, so that simulated anomalies lie on the part and not on the background (MemSeg; SLSG, Sec. 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 256
MIN_FRACTION, MAX_FRACTION = 0.05, 0.95  # fractions of the image between which a foreground is trusted
# Minimum fraction of the grey values' variance that lies between the two classes. The best cut of a Gaussian reaches 2/π = 0.64,
# of a uniform distribution 0.75: anything that does not exceed these is one population of grey values, not two.
MIN_SEPARATION = 0.8


def otsu_foreground(images: Tensor) -> Tensor:
    """Foreground by Otsu's threshold on grey values (IEEE Trans. SMC 1979): the class with fewer pixels on the image border.

    A textile or a plate fills its image: the whole image counts as foreground where the foreground would be less than 5 % or more
    than 95 % of it, or where the grey values do not form two classes.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].

    Returns:
        ``(B, 1, H, W)`` bool.
    """
    levels = (_grey(images) * (LEVELS - 1)).round().long()
    thresholds, separation = _otsu_thresholds(levels)
    bright = levels > thresholds.view(-1, 1, 1)
    border = torch.cat([bright[:, 0], bright[:, -1], bright[:, :, 0], bright[:, :, -1]], 1)
    bright_background = border.float().mean(1) > 0.5
    foreground = bright != bright_background.view(-1, 1, 1)
    fraction = foreground.float().mean((1, 2))
    fills_image = (fraction < MIN_FRACTION) | (fraction > MAX_FRACTION) | (separation < MIN_SEPARATION)
    return (foreground | fills_image.view(-1, 1, 1))[:, None]


def level_foreground(images: Tensor, level: float, *, brighter: bool) -> Tensor:
    """Pixels of ``(B, 3, H, W)`` images that are brighter (or darker) than a grey level in (0, 1), ``(B, 1, H, W)`` bool."""
    above = _grey(images) > level
    return (above if brighter else ~above)[:, None]


def _grey(images: Tensor) -> Tensor:
    return (0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]).clamp(0, 1)


def _otsu_thresholds(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Otsu's threshold of each of ``(B, H, W)`` images, in grey levels, and η, the fraction of variance between classes."""
    flat = levels.flatten(1)
    histogram = torch.zeros(len(flat), LEVELS, device=flat.device).scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float))
    density = histogram / flat.shape[1]
    below = density.cumsum(1)
    grey = torch.arange(LEVELS, device=flat.device)
    moment = (density * grey).cumsum(1)
    mean = moment[:, -1:]
    between = (mean * below - moment).square() / (below * (1 - below)).clamp_min(1e-6)
    best = between.max(1)
    variance = (density * (grey - mean).square()).sum(1)
    return best.indices, best.values / variance.clamp_min(1e-6)
