"""SemiREST's windows, losses, augmentation and network by their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adjobs.methods import presets
from adjobs.methods.semirest.augment import LIMIT, drawn_neighbour, hidden, noisy
from adjobs.methods.semirest.config import Config
from adjobs.methods.semirest.loss import aligned, mixed, share_of_mix, sharpened, soft_focal
from adjobs.methods.semirest.networks import ResidualSwin
from adjobs.methods.semirest.windows import bagged, cut, places, starts

CPU = torch.device("cpu")


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Windows.


@pytest.mark.parametrize(
    ("grid", "side", "step", "expected"),
    [(64, 32, 8, [0, 8, 16, 24, 32]), (10, 4, 4, [0, 4, 6]), (8, 8, 3, [0]), (9, 8, 8, [0, 1])],
)
def test_windows_reach_the_border(grid, side, step, expected):
    assert starts(grid, side, step) == expected


def test_the_mean_of_what_windows_say_of_a_token_is_what_it_is():
    values = torch.rand(3, 10, 10, generator=gen())
    at = places(3, 10, 4, 3, CPU)
    assert len(at) == 3 * 3 * 3
    torch.testing.assert_close(bagged(cut(values, at, 4), at, 3, 10), values)
    once = bagged(torch.arange(len(at)).float().view(-1, 1, 1).expand(-1, 4, 4), at, 3, 10)
    assert once[0, 0, 0] == 0
    assert once[0, 0, 3] == 0.5  # windows 0 and 1


# Loss.


def test_focal_loss_of_certain_labels_is_the_focal_loss():
    logits, labels = torch.randn(50, 2, generator=gen()), torch.arange(50) % 2
    p = logits.softmax(1)[torch.arange(50), labels]
    expected = torch.where(labels == 1, 0.25, 0.75) * (1 - p) ** 4 * -p.log()
    torch.testing.assert_close(soft_focal(logits, F.one_hot(labels, 2), 0.25, 4.0), expected)


def test_focal_loss_of_soft_labels_takes_their_mean_chance():
    logits, q = torch.tensor([[0.3, -1.2]]), torch.tensor([[0.4, 0.6]])
    right = (logits.softmax(1) * q).sum(1)
    torch.testing.assert_close(soft_focal(logits, q, 0.25, 2.0), 0.25 * (1 - right) ** 2 * -right.log())
    torch.testing.assert_close(soft_focal(logits, q.flip(1), 0.25, 0.0), -0.75 * (logits.softmax(1) * q.flip(1)).sum(1).log())


@pytest.mark.parametrize("gap", [10.0, 40.0, 400.0])
def test_focal_loss_pulls_where_the_network_is_sure_and_wrong(gap):
    logits = torch.tensor([[gap, 0.0]], requires_grad=True)
    loss = soft_focal(logits, torch.tensor([[0.0, 1.0]]), 0.25, 4.0).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0.25 * gap, rel=1e-3)
    torch.testing.assert_close(logits.grad, torch.tensor([[0.25, -0.25]]), rtol=0.02, atol=0)


def test_a_guess_is_sharpened():
    q = torch.tensor([[0.4, 0.6], [0.5, 0.5]])
    torch.testing.assert_close(sharpened(q, 0.5), torch.tensor([[0.16, 0.36], [0.25, 0.25]]) / torch.tensor([[0.52], [0.5]]))
    torch.testing.assert_close(sharpened(q, 1.0), q)


def test_guesses_are_moved_so_that_a_share_of_them_is_anomalous():
    p = torch.rand(1000, 1, generator=gen()) * 0.4
    q = torch.cat([1 - p, p], 1)
    moved = aligned(q, q.mean(0), 0.5)
    torch.testing.assert_close(moved.sum(1), torch.ones(1000))
    assert float(moved[:, 1].mean()) == pytest.approx(0.47, abs=0.03)
    assert torch.equal(moved[:, 1].argsort(), p[:, 0].argsort())
    torch.testing.assert_close(aligned(q, q.mean(0), float(p.mean())), q)


@pytest.mark.parametrize("beta", [0.1, 0.75, 1.0])
def test_the_share_of_a_mix_is_distributed_as_it_should_be(beta):
    generator = gen()
    drawn = np.array([float(share_of_mix(beta, generator)) for _ in range(4000)])
    expected = np.random.default_rng(0).beta(beta, beta, 100_000)
    expected = np.maximum(expected, 1 - expected)
    assert drawn.min() >= 0.5
    np.testing.assert_allclose(np.quantile(drawn, [0.1, 0.5, 0.9]), np.quantile(expected, [0.1, 0.5, 0.9]), atol=0.02)


def test_a_mix_is_mostly_what_it_was():
    values = torch.tensor([[0.0], [1.0]])
    torch.testing.assert_close(mixed(values, torch.tensor([1, 0]), torch.tensor(0.75)), torch.tensor([[0.25], [0.75]]))


# Augmentation.


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [1.0]), (2, [0.5, 0.5]), (3, [0.5, 0.3, 0.2]), (5, [0.5, 0.3, *[0.2 / 3] * 3])]
)
def test_neighbours_are_drawn_with_their_chances(count, expected):
    indices = torch.arange(count).expand(100, 100, count) * 10
    drawn = drawn_neighbour(indices, Config(), gen())
    shares = [float((drawn == 10 * i).float().mean()) for i in range(count)]
    np.testing.assert_allclose(shares, expected, atol=0.02)


def test_noise_is_bounded_and_on_its_share_of_tokens_and_dimensions():
    residuals = torch.ones(200, 64)
    found = noisy(residuals, Config(), gen())
    assert math.exp(-LIMIT) - 1e-6 <= found.min() < 0.9
    assert 1.1 < found.max() <= 1.25 + 1e-6
    changed = found != 1
    assert abs(float(changed.any(1).float().mean()) - 0.5) < 0.1
    assert abs(float(changed[changed.any(1)].float().mean()) - 0.5) < 0.03
    assert torch.equal(noisy(residuals, Config(noise=0.0), gen()), residuals)


def test_up_to_a_share_of_tokens_is_hidden():
    shares = [float(hidden(torch.Size((40, 40)), 0.5, gen(seed)).float().mean()) for seed in range(50)]
    assert max(shares) < 0.55
    assert min(shares) < 0.05
    assert max(shares) > 0.4


# Networks.


def test_the_published_network_has_the_published_size():
    config = Config(**{**presets("semirest")["paper"], "backbone": "resnet18"})
    network = ResidualSwin(config, config.window)
    counted = {name: p.numel() for name, p in network.named_parameters() if "relative_position" not in name}
    assert sum(counted.values()) == 51_440_642  # paper: 51.44 M
