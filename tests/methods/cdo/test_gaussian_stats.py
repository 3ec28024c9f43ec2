"""Gaussians of the differences between expert and apprentice."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from adjobs.methods.cdo.gaussian_stats import DifferenceStats
from adjobs.methods.cdo.loss import differences


def test_forward_joins_the_levels_and_averages_two_scales():
    stats = DifferenceStats([2, 3], (4, 4), grid=2, max_channels=9, shrinkage=0.01, seed=0)
    generator = torch.Generator().manual_seed(0)
    expert, apprentice = (
        [torch.randn(1, 2, 8, 8, generator=generator), torch.randn(1, 3, 2, 2, generator=generator)] for _ in range(2)
    )
    distances = stats(expert, apprentice)[0]  # Euclidean, because nothing is fitted
    lengths = [maps.norm(dim=1, keepdim=True) for maps in expert]
    fine, coarse = (length * d for length, d in zip(lengths, differences(expert, apprentice), strict=True))
    joint = torch.cat([F.avg_pool2d(fine, 2), F.interpolate(coarse, (4, 4), mode="bilinear", align_corners=False)], 1)
    means = torch.stack(
        [
            joint[0, :, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].mean((1, 2))
            for row in range(4)
            for column in range(4)
        ],
        1,
    ).view(5, 4, 4)
    single, neighbourhood = (maps.square().mean(0).sqrt() for maps in (joint[0], means))
    torch.testing.assert_close(distances, (single + neighbourhood) / 2)


def test_scales_are_fitted_to_their_own_normal_differences():
    """A faint change of a whole neighbourhood is lost in the noise of a single position, and far from normal means."""
    stats = DifferenceStats([4], (8, 8), grid=1, max_channels=4, shrinkage=1e-6, seed=0)
    generator = torch.Generator().manual_seed(0)
    apprentice = [torch.ones(64, 4, 8, 8)]
    expert = [10 + torch.randn(64, 4, 8, 8, generator=generator)]
    stats.fit([(stats.reference([maps[:32] for maps in expert]), [apprentice[0][:32]])], 32)
    differences_normal = stats.between(stats.reference(expert), apprentice)
    assert float(stats.single(differences_normal).mean()) < 1.2
    faint = [expert[0] + torch.tensor([1.0, -1, 1, -1]).view(1, 4, 1, 1)]
    normal, changed = stats(expert, apprentice)[32:], stats(faint, apprentice)[32:]
    alone = stats.single(stats.between(stats.reference(faint), apprentice))[32:]
    assert changed.median() > 1.3 * normal.median()
    assert changed.median() > 1.2 * alone.median()


def test_forward_depends_on_the_length_of_the_experts_features():
    """Nine times the normal length in the same direction: the trained discrepancy would not change."""
    stats = DifferenceStats([4], (1, 1), grid=1, max_channels=4, shrinkage=1e-6, seed=0)
    generator = torch.Generator().manual_seed(0)
    expert = [torch.rand(64, 4, 1, 1, generator=generator) + 1]
    apprentice = [torch.rand(64, 4, 1, 1, generator=generator) + 1]
    stats.fit([(stats.reference(expert), apprentice)], 64)
    normal, amplified = stats(expert, apprentice), stats([9 * expert[0]], apprentice)
    assert amplified.median() > 4 * normal.median()
