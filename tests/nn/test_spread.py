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
    assert spread.centre.tolist() == [[5.0, 5.0]]
    # Variances with N − 1: 4/3 and 400/3, hence squared distances 1 / (4/3) = 0.75 each.
    far = spread(torch.tensor([[1.0, 0.0], [0.0, 10.0]]) + 5)
    torch.testing.assert_close(far, torch.tensor([0.75, 0.75]))


def test_until_it_is_measured_it_is_euclidean_from_the_origin():
    assert Spread(2, (3,))(torch.tensor([[[3.0, 4.0]] * 3])).tolist() == [[25.0] * 3]


def test_places_are_kept_apart_and_batches_do_not_matter():
    drawn = torch.randn(20, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 100
    for counted in (moments(drawn), moments(drawn[:7], drawn[7:8], drawn[8:])):
        centre, covariance = counted.result()
        for place, here in enumerate(drawn.reshape(20, 6, 4).unbind(1)):
            torch.testing.assert_close(centre[place], here.mean(0))
            torch.testing.assert_close(covariance[place], here.T.cov())
    spread = Spread(4, (2, 3))
    spread.measure(moments(drawn), 1e-9)
    # N vectors are on average (N − 1) d / N from their centre.
    torch.testing.assert_close(spread(drawn.float()).mean(0), torch.full((2, 3), 19 * 4 / 20), rtol=1e-4, atol=0)


def test_each_vector_is_judged_at_its_own_place():
    draw = torch.Generator().manual_seed(0)
    spread = Spread(2, (2, 1))
    spread.measure(moments(torch.randn(50, 2, 1, 2, generator=draw) * torch.tensor([1.0, 10.0]).view(2, 1, 1)), 1e-9)
    still, restless = spread(torch.full((3, 2, 1, 2), 5.0))[2, :, 0]
    assert still > 50 * restless


def test_a_place_that_never_varies_or_only_by_rounding_is_neither_blind_nor_without_bounds():
    """As under a uniform background: its unit is a part of the mean spread."""
    drawn = torch.randn(63, 3, 4, generator=torch.Generator().manual_seed(0))
    drawn[:, 1] = 0.3
    drawn[:, 2] = 0.3
    drawn[-8:, 2] += 1e-7
    spread = Spread(4, (3,))
    spread.measure(moments(drawn[:32], drawn[32:55], drawn[55:]), 0.01)
    far = spread(torch.full((1, 3, 4), 1.3))[0, 1:]
    mean = drawn.double().var(0).mean()
    torch.testing.assert_close(far, torch.full_like(far, 4 / (0.01 * float(mean))), rtol=1e-3, atol=0)


def test_fewer_samples_than_dimensions_and_samples_that_are_all_alike_are_stood():
    for samples in (few(), few()[:1]):
        assert torch.isfinite(whitening(moments(samples).result()[1], 1e-4)).all()
    assert torch.equal(whitening(moments(torch.full((7, 16), 0.1)).result()[1], 1e-4)[0], torch.eye(16))


def test_shrinkage_widens_what_has_no_spread():
    covariance = moments(few()).result()[1]
    tight, wide = (whitening(covariance, shrinkage) for shrinkage in (1e-4, 1e-1))
    assert float(tight.abs().max()) > 10 * float(wide.abs().max())
    torch.testing.assert_close(whitening(covariance * 1e-8, 1e-4) * 1e-4, tight, rtol=1e-3, atol=1e-3)


def test_channels_last_leaves_the_matrices_in_order():
    spread = Spread(4, (2, 3)).to(memory_format=torch.channels_last)
    assert spread.whiten.is_contiguous()


def test_nothing_counted_in_has_no_centre():
    with pytest.raises(ValueError, match="no vectors"):
        Moments().result()
