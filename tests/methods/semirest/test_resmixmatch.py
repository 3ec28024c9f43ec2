"""Pseudo-labels and MixUp."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adjobs.methods.semirest.config import Config
from adjobs.methods.semirest.resmixmatch import (
    align_distribution,
    draw_mixup_weight,
    mix_tokens,
    mix_up,
    sharpen,
    shuffle_within,
)
from tests.helpers.randomness import generator


def test_sharpen_raises_to_the_inverse_temperature_and_normalises():
    q = torch.tensor([[0.4, 0.6], [0.5, 0.5]])
    torch.testing.assert_close(sharpen(q, 0.5), torch.tensor([[0.16, 0.36], [0.25, 0.25]]) / torch.tensor([[0.52], [0.5]]))
    torch.testing.assert_close(sharpen(q, 1.0), q)


def test_align_distribution_moves_the_mean_to_the_prior_and_keeps_the_order():
    p = torch.rand(1000, 1, generator=generator()) * 0.4
    q = torch.cat([1 - p, p], 1)
    aligned = align_distribution(q, q.mean(0), 0.5)
    torch.testing.assert_close(aligned.sum(1), torch.ones(1000))
    assert float(aligned[:, 1].mean()) == pytest.approx(0.47, abs=0.03)
    assert torch.equal(aligned[:, 1].argsort(), p[:, 0].argsort())


def test_align_distribution_matching_prior_changes_nothing():
    p = torch.rand(1000, 1, generator=generator())
    q = torch.cat([1 - p, p], 1)
    torch.testing.assert_close(align_distribution(q, q.mean(0), float(p.mean())), q)


@pytest.mark.parametrize("beta", [0.1, 0.75, 1.0])
def test_draw_mixup_weight_follows_the_folded_beta_distribution(beta):
    random = generator()
    drawn = np.array([float(draw_mixup_weight(beta, random)) for _ in range(4000)])
    expected = np.random.default_rng(0).beta(beta, beta, 100_000)
    expected = np.maximum(expected, 1 - expected)
    assert drawn.min() >= 0.5
    np.testing.assert_allclose(np.quantile(drawn, [0.1, 0.5, 0.9]), np.quantile(expected, [0.1, 0.5, 0.9]), atol=0.02)


def test_mix_up_weighs_the_original_by_the_weight():
    values = torch.tensor([[0.0], [1.0]])
    mixed = mix_up(values, torch.tensor([1, 0]), torch.tensor(0.75))
    torch.testing.assert_close(mixed, torch.tensor([[0.25], [0.75]]))


def test_shuffle_within_fixes_tokens_that_are_not_selected():
    selected = torch.rand(4, 3, 3, generator=generator()) < 0.5
    order = shuffle_within(selected, generator())
    fixed = ~selected.flatten()
    assert sorted(order.tolist()) == list(range(36))
    assert torch.equal(order[fixed], torch.arange(36)[fixed])
    assert not torch.equal(order, torch.arange(36))


def test_mix_tokens_mixes_all_unknown_and_a_fraction_of_the_known_tokens():
    random = generator()
    residuals, targets = torch.rand(4, 8, 8, 5, generator=random), torch.rand(4, 8, 8, 2, generator=random)
    state = torch.randint(3, (4, 8, 8), generator=random)  # known, unknown, undecided
    mixed = mix_tokens(residuals, targets, state == 0, state == 1, Config(mixup_known_fraction=0.25), random)
    changed = (mixed.residuals != residuals).any(-1)
    assert torch.equal(changed, (mixed.targets != targets).any(-1))
    assert float(changed[state == 1].float().mean()) > 0.95  # one may be its own partner
    assert 0.1 < float(changed[state == 0].float().mean()) < 0.4
    assert not changed[state == 2].any()
