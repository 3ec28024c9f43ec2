"""CDO's equations, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from adjobs.methods.cdo.loss import MAX_WEIGHT, MIN_DISCREPANCY, cdo_loss, discrepancies


def compute_loss(d: list[float], synthetic: list[bool], gamma: float) -> float:
    """The loss of one level of one image with a single row of positions."""
    is_synthetic = torch.tensor(synthetic).view(1, 1, -1)
    return float(cdo_loss(torch.tensor(d).view(1, 1, 1, -1), ~is_synthetic, is_synthetic, gamma)[0])


def test_cdo_loss_two_pixels():
    """One normal pixel with d = 0.3, one synthetic with d = 0.5, any γ.

    Each is the mean of its kind, so w_n = (0.3 / 0.3)^γ = 1 and w_s = (0.5 / 0.5)^-γ = 1:
    L = (1 · 0.3 − 1 · 0.5) / (1 + 1) = −0.1.
    """
    assert compute_loss([0.3, 0.5], [False, True], 2.0) == pytest.approx(-0.1)
    assert compute_loss([0.3, 0.5], [False, True], 0.0) == pytest.approx(-0.1)


def test_cdo_loss_gamma_2_weighs_hard_pixels():
    """Two normal pixels 0.1 and 0.3 (mean 0.2), two synthetic 0.4 and 0.8 (mean 0.6), γ = 2.

    w_n = (0.1/0.2)² = 0.25 and (0.3/0.2)² = 2.25; w_s = (0.6/0.4)² = 2.25 and (0.6/0.8)² = 0.5625.
    Numerator: 0.25·0.1 + 2.25·0.3 − 2.25·0.4 − 0.5625·0.8 = 0.7 − 1.35 = −0.65.
    Denominator: 0.25 + 2.25 + 2.25 + 0.5625 = 5.3125.
    """
    assert compute_loss([0.1, 0.3, 0.4, 0.8], [False, False, True, True], 2.0) == pytest.approx(-0.65 / 5.3125)


def test_cdo_loss_gamma_0_is_margin_optimisation_alone():
    """γ = 0, eq. (5): (0.1 + 0.3 − 0.4 − 0.8) / 4 = −0.2."""
    assert compute_loss([0.1, 0.3, 0.4, 0.8], [False, False, True, True], 0.0) == pytest.approx(-0.2)


def test_cdo_loss_no_synthetic_pixels_is_mean_discrepancy():
    """Eq. (4): (0.1 + 0.3) / 2 = 0.2 with γ = 0; with γ = 2 (0.25·0.1 + 2.25·0.3) / 2.5 = 0.28."""
    assert compute_loss([0.1, 0.3], [False, False], 0.0) == pytest.approx(0.2)
    assert compute_loss([0.1, 0.3], [False, False], 2.0) == pytest.approx(0.28)


def test_cdo_loss_unknown_pixels_are_ignored():
    d = torch.tensor([0.1, 0.3, 3.9]).view(1, 1, 1, -1)
    normal, synthetic = torch.tensor([True, True, False]).view(1, 1, -1), torch.zeros(1, 1, 3, dtype=torch.bool)
    assert float(cdo_loss(d, normal, synthetic, 0.0)[0]) == pytest.approx(0.2)


def test_cdo_loss_synthetic_pixel_without_discrepancy_has_bounded_weight():
    loss = compute_loss([0.2, 0.0, 4.0], [False, True, True], 2.0)
    assert math.isfinite(loss)
    # μ_s = 2; the first synthetic pixel's (2 / 1e-6)² is cut to MAX_WEIGHT, the second's is (2 / 4)² = 0.25.
    assert (2.0 / MIN_DISCREPANCY) ** 2 > MAX_WEIGHT
    assert loss == pytest.approx((0.2 - 0.25 * 4.0) / (1 + MAX_WEIGHT + 0.25))


def test_cdo_loss_weights_carry_no_gradient():
    """With constant weights, ∂L/∂d of a normal pixel is w_n / Σw: 2.25 / 2.5 for d = 0.3 beside 0.1, γ = 2."""
    d = torch.tensor([0.1, 0.3]).view(1, 1, 1, -1).requires_grad_()
    none = torch.zeros(1, 1, 2, dtype=torch.bool)
    cdo_loss(d, ~none, none, 2.0).sum().backward()
    torch.testing.assert_close(d.grad.flatten(), torch.tensor([0.25 / 2.5, 2.25 / 2.5]))


def test_cdo_loss_gradient_decreases_normal_and_increases_synthetic_discrepancies():
    d = torch.tensor([0.2, 0.6]).view(1, 1, 1, -1).requires_grad_()
    synthetic = torch.tensor([False, True]).view(1, 1, -1)
    cdo_loss(d, ~synthetic, synthetic, 2.0).sum().backward()
    assert d.grad.flatten()[0] > 0 > d.grad.flatten()[1]


def test_discrepancies_are_squared_distances_of_unit_vectors():
    """(3, 4)/5 against (1, 0): ‖(−0.4, 0.8)‖² = 0.8 = 2 − 2·0.6, whatever the lengths."""
    expert, apprentice = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([7.0, 0.0]).view(1, 2, 1, 1)
    assert float(discrepancies([expert], [apprentice])) == pytest.approx(0.8)
    assert float(discrepancies([expert], [apprentice], "l2")) == pytest.approx(math.sqrt(0.8))


def test_discrepancies_have_the_size_of_the_first_level():
    maps = [torch.rand(2, 4, 16, 16), torch.rand(2, 8, 8, 8), torch.rand(2, 16, 4, 4)]
    assert discrepancies(maps, [torch.rand_like(m) for m in maps]).shape == (3, 2, 16, 16)
