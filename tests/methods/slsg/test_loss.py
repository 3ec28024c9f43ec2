"""SLSG's segmentation losses by hand."""

from __future__ import annotations

import pytest
import torch

from adjobs.methods.slsg.loss import focal_loss, l1_loss, masked_mean

LOGITS = torch.tensor([[1.0, 3.0], [0.5, -2.0]]).view(2, 2, 1, 1)
MASKS = torch.tensor([True, False]).view(2, 1, 1, 1)


def true_class_probability() -> torch.Tensor:
    p = torch.softmax(LOGITS, 1)
    return torch.stack([p[0, 1], p[1, 0]]).view(2, 1, 1, 1)


def test_focal_loss_is_the_published_formula():
    p = true_class_probability()
    torch.testing.assert_close(focal_loss(LOGITS, MASKS, 4.0), -((1 - p) ** 4) * p.log())
    torch.testing.assert_close(focal_loss(LOGITS, MASKS, 0.0), -p.log())


def test_focal_loss_is_finite_for_extreme_logits():
    extreme = torch.tensor([-500.0, 500.0]).view(1, 2, 1, 1)
    assert float(focal_loss(extreme, ~MASKS[:1], 4.0)) == pytest.approx(1000)


def test_l1_loss_is_one_minus_the_probability_of_the_true_class():
    torch.testing.assert_close(l1_loss(LOGITS, MASKS), 1 - true_class_probability())


def test_masked_mean_ignores_pixels_that_are_not_selected():
    values, selected = torch.tensor([[1.0, 2.0, 7.0]]), torch.tensor([[True, True, False]])
    assert float(masked_mean(values, selected)) == 1.5
    assert float(masked_mean(values, ~selected)) == 7.0
    assert float(masked_mean(values, torch.zeros_like(selected))) == 0.0
