"""Gaussians of the differences between expert and apprentice."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from adjobs.methods.cdo.gaussian_stats import DifferenceStats
from adjobs.methods.cdo.loss import differences


def test_forward_joins_the_levels():
    stats = DifferenceStats([2, 3], (4, 4), grid=2, max_channels=9, shrinkage=0.01, seed=0)
    generator = torch.Generator().manual_seed(0)
    expert, apprentice = (
        [torch.randn(1, 2, 8, 8, generator=generator), torch.randn(1, 3, 2, 2, generator=generator)] for _ in range(2)
    )
    distances = stats(expert, apprentice)[0]  # Euclidean, because nothing is fitted
    lengths = [maps.norm(dim=1, keepdim=True) for maps in expert]
    fine, coarse = (length * d for length, d in zip(lengths, differences(expert, apprentice), strict=True))
    joint = torch.cat([F.avg_pool2d(fine, 2), F.interpolate(coarse, (4, 4), mode="bilinear", align_corners=False)], 1)
    torch.testing.assert_close(distances, joint[0].square().mean(0).sqrt())


def test_forward_depends_on_the_length_of_the_experts_features():
    """Nine times the normal length in the same direction: the trained discrepancy would not change."""
    stats = DifferenceStats([4], (1, 1), grid=1, max_channels=4, shrinkage=1e-6, seed=0)
    generator = torch.Generator().manual_seed(0)
    expert = [torch.rand(64, 4, 1, 1, generator=generator) + 1]
    apprentice = [torch.rand(64, 4, 1, 1, generator=generator) + 1]
    stats.fit([(stats.reference(expert), apprentice)], 64)
    normal, amplified = stats(expert, apprentice), stats([9 * expert[0]], apprentice)
    assert amplified.median() > 4 * normal.median()
