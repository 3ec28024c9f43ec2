"""LIAC's equations and the losses of its baselines, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from adjobs.methods.liac.loss import (
    abnormality_capturing,
    asymmetric,
    distance,
    encouraging,
    focal,
    logit_adjustment,
    logit_inducing,
    weighted_ce,
)

DELTA = torch.tensor([-3.0, -0.5, 0.0, 2.0, 4.0], dtype=torch.float64)
MARGIN = torch.tensor(math.log(571 / 40), dtype=torch.float64)
ANOMALOUS = torch.ones(5, dtype=torch.bool)


def printed_eq_4(delta: torch.Tensor, anomalous: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Eq. (4) to the letter."""
    y = anomalous.to(delta.dtype)
    wrong_minus_right = torch.where(anomalous, -delta, delta)
    ratio = torch.where(anomalous, margin, -margin).exp()
    return torch.log(1 - y + ratio * wrong_minus_right.exp())


@pytest.mark.parametrize("labels", [ANOMALOUS, ~ANOMALOUS])
def test_logit_inducing_is_equation_4(labels):
    torch.testing.assert_close(logit_inducing(DELTA, labels, MARGIN), printed_eq_4(DELTA, labels, MARGIN))


def test_logit_inducing_large_logits_are_finite_unlike_the_printed_form():
    far = torch.tensor([1000.0], dtype=torch.float64)
    assert torch.isinf(printed_eq_4(far, torch.tensor([True]), MARGIN)).all()
    assert float(logit_inducing(far, torch.tensor([True]), MARGIN)) == pytest.approx(float(MARGIN) - 1000)
    assert float(logit_inducing(far, torch.tensor([False]), MARGIN)) == pytest.approx(1000 - float(MARGIN))


def test_logit_inducing_gradient_is_constant_on_anomalies_and_reduced_by_the_margin_on_normal_images():
    delta = DELTA.clone().requires_grad_()
    logit_inducing(delta, ANOMALOUS, MARGIN).sum().backward()
    assert delta.grad.tolist() == [-1.0] * 5
    delta.grad = None
    logit_inducing(delta, ~ANOMALOUS, MARGIN).sum().backward()
    torch.testing.assert_close(delta.grad, torch.sigmoid(DELTA - MARGIN))


def test_logit_inducing_floor_stops_the_gradient_of_anomalies():
    delta = torch.tensor([3.0, 8.0], dtype=torch.float64, requires_grad=True)
    loss = logit_inducing(delta, ANOMALOUS[:2], torch.tensor(2.0, dtype=torch.float64), floor=5.0)
    loss.sum().backward()
    assert loss.tolist() == [-1.0, -5.0]
    assert delta.grad.tolist() == [-1.0, 0.0]


@pytest.mark.parametrize("label", [0, 1])
def test_logit_adjustment_is_cross_entropy_of_logits_plus_log_frequencies(label):
    logits = torch.stack([torch.zeros(5, dtype=torch.float64), DELTA], 1)
    priors = torch.tensor([571 / 611, 40 / 611], dtype=torch.float64).log()
    expected = F.cross_entropy(logits + priors, torch.full((5,), label), reduction="none")
    torch.testing.assert_close(logit_adjustment(DELTA, ANOMALOUS if label else ~ANOMALOUS, MARGIN), expected)


def test_weighted_ce_weights_average_to_one_over_the_training_split():
    zero = torch.zeros(1, dtype=torch.float64)
    unweighted = math.log(2)
    anomalous, normal = (float(weighted_ce(zero, torch.tensor([y]), MARGIN)) / unweighted for y in (True, False))
    assert anomalous == pytest.approx(611 / 80)
    assert (571 * normal + 40 * anomalous) / 611 == pytest.approx(1)


def test_focal_and_asymmetric_by_hand():
    p = torch.sigmoid(DELTA)
    torch.testing.assert_close(focal(DELTA, ANOMALOUS, 2.0, 0.25), -0.25 * (1 - p) ** 2 * p.log())
    torch.testing.assert_close(focal(DELTA, ~ANOMALOUS, 2.0, 0.25), -0.75 * p**2 * (1 - p).log())
    torch.testing.assert_close(asymmetric(DELTA, ANOMALOUS, 2.0), -p.log())
    torch.testing.assert_close(asymmetric(DELTA, ~ANOMALOUS, 2.0), -(p**2) * (1 - p).log())


def test_encouraging_bonus_is_linear_beyond_the_limit():
    p = torch.sigmoid(DELTA)
    bonus = torch.where(p < 0.75, (1 - p).log(), math.log(0.25) - (p - 0.75) / 0.25)
    torch.testing.assert_close(encouraging(DELTA, ANOMALOUS), -p.log() + bonus)
    torch.testing.assert_close(encouraging(DELTA, ANOMALOUS), encouraging(-DELTA, ~ANOMALOUS))


def test_distance_is_one_minus_cosine_and_unbounded_as_printed():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(4, 16, generator=generator) for _ in range(2))
    torch.testing.assert_close(distance(a, b), 1 - F.cosine_similarity(a, b))
    assert float(distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))) == pytest.approx(1)
    expected = (a / a.square().sum(1, keepdim=True) - b / b.square().sum(1, keepdim=True)).square().sum(1) / 2
    torch.testing.assert_close(distance(a, b, "l2sq"), expected)
    assert float(distance(a * 0.01, b * 0.01, "l2sq").min()) > 1


def test_abnormality_capturing_decreases_distance_of_normal_images_only():
    d = torch.tensor([0.2, 0.7])
    anomalous = torch.tensor([False, True])
    assert abnormality_capturing(d, anomalous).tolist() == pytest.approx([0.2, 0.3])
    assert abnormality_capturing(d, anomalous, "as_printed").tolist() == pytest.approx([0.8, 0.7])
