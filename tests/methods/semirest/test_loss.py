"""The focal loss on soft labels, and means over selected tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from adjobs.data.labels.masks import ANOMALOUS, NORMAL, UNKNOWN
from adjobs.methods.semirest.loss import masked_mean, separation, soft_focal_loss
from tests.helpers.randomness import generator


def test_soft_focal_loss_one_hot_labels_give_the_focal_loss():
    logits, labels = torch.randn(50, 2, generator=generator()), torch.arange(50) % 2
    p = logits.softmax(1)[torch.arange(50), labels]
    expected = torch.where(labels == 1, 0.25, 0.75) * (1 - p) ** 4 * -p.log()
    torch.testing.assert_close(soft_focal_loss(logits, F.one_hot(labels, 2), 0.25, 4.0), expected)


def test_soft_focal_loss_soft_labels_use_the_expected_probability():
    logits, q = torch.tensor([[0.3, -1.2]]), torch.tensor([[0.4, 0.6]])
    p_t = (logits.softmax(1) * q).sum(1)
    torch.testing.assert_close(soft_focal_loss(logits, q, 0.25, 2.0), 0.25 * (1 - p_t) ** 2 * -p_t.log())
    flipped = -0.75 * (logits.softmax(1) * q.flip(1)).sum(1).log()
    torch.testing.assert_close(soft_focal_loss(logits, q.flip(1), 0.25, 0.0), flipped)


@pytest.mark.parametrize("margin", [10.0, 40.0, 400.0])
def test_soft_focal_loss_certain_and_wrong_logits_keep_their_gradient(margin):
    logits = torch.tensor([[margin, 0.0]], requires_grad=True)
    loss = soft_focal_loss(logits, torch.tensor([[0.0, 1.0]]), 0.25, 4.0).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0.25 * margin, rel=1e-3)
    torch.testing.assert_close(logits.grad, torch.tensor([[0.25, -0.25]]), rtol=0.02, atol=0)


def test_masked_mean_normalises_by_the_selected_or_the_given_values():
    values, selected = torch.tensor([1.0, 2.0, 7.0]), torch.tensor([True, True, False])
    assert float(masked_mean(values, selected)) == 1.5
    assert float(masked_mean(values, selected, ~selected)) == 3.0
    assert float(masked_mean(values, torch.zeros_like(selected))) == 0.0


def test_separation_is_the_mean_probability_of_each_class():
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0], [5.0, 0.0]])
    terms = separation(logits, torch.tensor([NORMAL, ANOMALOUS, UNKNOWN]))
    probability = logits.softmax(1)[:, 1]
    assert terms == {"p_normal": probability[0], "p_anomalous": probability[1]}
