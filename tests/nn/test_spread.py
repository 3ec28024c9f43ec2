"""Distances in units of spread, at one place and at many."""

from __future__ import annotations

import pytest
import torch

from adjobs.nn.spread import Moments, Spread, whitening

# Deviations 1 and 10 along the axes, around (5, 5).
CROSS = torch.tensor([[1.0, 10.0], [-1.0, 10.0], [1.0, -10.0], [-1.0, -10.0]]) + 5


def moments(*batches: torch.Tensor) -> Moments:
    counted = Moments()
    for batch in batches:
        counted.add(batch)
    return counted


def few() -> torch.Tensor:
    return torch.randn(3, 16, generator=torch.Generator().manual_seed(0))


def test_distance_is_mahalanobis():
    """(1, 0) and (0, 10) are equally far from the centre."""
    spread = Spread(2)
    spread.measure(moments(CROSS), 1e-9)
    assert spread.centre.tolist() == [5.0, 5.0]
    # Variances with N − 1: 4/3 and 400/3, hence squared distances 1 / (4/3) = 0.75 each.
    far = spread(torch.tensor([[1.0, 0.0], [0.0, 10.0]]) + 5)
    torch.testing.assert_close(far, torch.tensor([0.75, 0.75]))


def test_until_it_is_measured_it_is_euclidean_from_the_origin():
    assert Spread(2, (3,))(torch.tensor([[[3.0, 4.0]] * 3])).tolist() == [[25.0] * 3]


def test_places_are_kept_apart_and_batches_do_not_matter():
    drawn = torch.randn(20, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 100
    centre, covariance = moments(drawn[:7], drawn[7:]).result()
    for row in range(2):
        for column in range(3):
            here = drawn[:, row, column]
            torch.testing.assert_close(centre[row, column], here.mean(0))
            torch.testing.assert_close(covariance[row, column], here.T.cov())
    spread = Spread(4, (2, 3))
    spread.measure(moments(drawn), 1e-9)
    # N vectors are on average (N − 1) d / N from their centre.
    torch.testing.assert_close(spread(drawn.float()).mean(0), torch.full((2, 3), 19 * 4 / 20), rtol=1e-4, atol=0)


def test_fewer_samples_than_dimensions_and_samples_that_are_all_alike_are_stood():
    for samples in (few(), torch.ones(8, 16), few()[:1]):
        assert torch.isfinite(whitening(moments(samples).result()[1], 1e-4)).all()


def test_shrinkage_widens_what_has_no_spread():
    covariance = moments(few()).result()[1]
    tight, wide = (whitening(covariance, shrinkage) for shrinkage in (1e-4, 1e-1))
    assert float(tight.abs().max()) > 10 * float(wide.abs().max())
    torch.testing.assert_close(whitening(covariance * 1e-12, 1e-4) * 1e-6, tight, rtol=1e-3, atol=1e-3)


def test_nothing_counted_in_has_no_centre():
    with pytest.raises(ValueError, match="no vectors"):
        Moments().result()
