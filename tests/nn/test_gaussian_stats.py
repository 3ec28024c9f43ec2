"""Mahalanobis distances with one Gaussian, and with one per position."""

from __future__ import annotations

import pytest
import torch

from adjobs.nn.gaussian_stats import GaussianStats, Moments, whitening_matrices

# Deviations 1 and 10 along the axes, around (5, 5).
CROSS = torch.tensor([[1.0, 10.0], [-1.0, 10.0], [1.0, -10.0], [-1.0, -10.0]]) + 5


def moments_of(*batches: torch.Tensor) -> Moments:
    moments = Moments()
    for batch in batches:
        moments.add(batch)
    return moments


def few_samples() -> torch.Tensor:
    """Three samples in 16 dimensions."""
    return torch.randn(3, 16, generator=torch.Generator().manual_seed(0))


def test_forward_is_squared_mahalanobis_distance():
    stats = GaussianStats(2)
    stats.fit(moments_of(CROSS), 1e-9)
    assert stats.mean.tolist() == [[5.0, 5.0]]
    # Unbiased variances: 4/3 and 400/3, so (1, 0) and (0, 10) have squared distances 1 / (4/3) = 100 / (400/3) = 0.75.
    distances = stats(torch.tensor([[1.0, 0.0], [0.0, 10.0]]) + 5)
    torch.testing.assert_close(distances, torch.tensor([0.75, 0.75]))


def test_forward_not_fitted_is_squared_euclidean_norm():
    assert GaussianStats(2, (3,))(torch.tensor([[[3.0, 4.0]] * 3])).tolist() == [[25.0] * 3]


def test_moments_are_those_of_each_position_whatever_the_batches():
    samples = torch.randn(20, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 100
    for moments in (moments_of(samples), moments_of(samples[:7], samples[7:8], samples[8:])):
        mean, covariance = moments.result()
        for position, at_position in enumerate(samples.reshape(20, 6, 4).unbind(1)):
            torch.testing.assert_close(mean[position], at_position.mean(0))
            torch.testing.assert_close(covariance[position], at_position.T.cov())
    stats = GaussianStats(4, (2, 3))
    stats.fit(moments_of(samples), 1e-9)
    # The mean squared distance of N samples from their own mean is (N − 1) d / N.
    torch.testing.assert_close(stats(samples.float()).mean(0), torch.full((2, 3), 19 * 4 / 20), rtol=1e-4, atol=0)


def test_forward_uses_the_gaussian_of_each_position():
    generator = torch.Generator().manual_seed(0)
    stats = GaussianStats(2, (2, 1))
    deviations = torch.tensor([1.0, 10.0]).view(2, 1, 1)
    stats.fit(moments_of(torch.randn(50, 2, 1, 2, generator=generator) * deviations), 1e-9)
    narrow, wide = stats(torch.full((3, 2, 1, 2), 5.0))[2, :, 0]
    assert narrow > 50 * wide


def test_forward_constant_position_has_a_finite_scale():
    """As under a uniform background: its variance is a fraction of the mean variance, also with rounding errors."""
    samples = torch.randn(63, 3, 4, generator=torch.Generator().manual_seed(0))
    samples[:, 1] = 0.3
    samples[:, 2] = 0.3
    samples[-8:, 2] += 1e-7
    stats = GaussianStats(4, (3,))
    stats.fit(moments_of(samples[:32], samples[32:55], samples[55:]), 0.01)
    distances = stats(torch.full((1, 3, 4), 1.3))[0, 1:]
    mean_variance = float(samples.double().var(0).mean())
    torch.testing.assert_close(distances, torch.full_like(distances, 4 / (0.01 * mean_variance)), rtol=1e-3, atol=0)


@pytest.mark.parametrize("count", [1, 3])
def test_whitening_matrices_fewer_samples_than_dimensions_are_finite(count):
    assert torch.isfinite(whitening_matrices(moments_of(few_samples()[:count]).result()[1], 1e-4)).all()


def test_whitening_matrices_equal_samples_are_the_identity():
    assert torch.equal(whitening_matrices(moments_of(torch.full((7, 16), 0.1)).result()[1], 1e-4)[0], torch.eye(16))


def test_whitening_matrices_shrinkage_lowers_distances_along_constant_directions():
    covariance = moments_of(few_samples()).result()[1]
    weak, strong = (whitening_matrices(covariance, shrinkage) for shrinkage in (1e-4, 1e-1))
    assert float(weak.abs().max()) > 10 * float(strong.abs().max())
    torch.testing.assert_close(whitening_matrices(covariance * 1e-8, 1e-4) * 1e-4, weak, rtol=1e-3, atol=1e-3)


def test_whitening_matrices_are_inverse_factors_at_every_position():
    covariance = moments_of(torch.randn(40, 9, 5, generator=torch.Generator().manual_seed(0))).result()[1]
    whitening = whitening_matrices(covariance, 1e-9).double()
    torch.testing.assert_close(whitening @ covariance @ whitening.mT, torch.eye(5).double().expand(9, 5, 5), rtol=0, atol=1e-5)


def test_whitening_matrices_not_finite_covariance_is_refused():
    covariance = torch.eye(3, dtype=torch.float64).repeat(4, 1, 1)
    covariance[2, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        whitening_matrices(covariance, 0.01)


def test_channels_last_conversion_leaves_the_matrices_contiguous():
    stats = GaussianStats(4, (2, 3)).to(memory_format=torch.channels_last)
    assert stats.whitening.is_contiguous()


def test_moments_without_vectors_are_refused():
    with pytest.raises(ValueError, match="no vectors were added"):
        Moments().result()
