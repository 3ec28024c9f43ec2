"""Batch normalisation with one worker; two workers are tested with the training loop."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from adjobs.nn.norm import GlobalBatchNorm, recompute_running_stats, synchronise_batch_norm, use_batch_statistics

CPU = torch.device("cpu")


def layers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    from timm.layers import BatchNormAct2d

    return {
        "2d": (nn.BatchNorm2d(3), (4, 3, 5, 6)),
        "1d": (nn.BatchNorm1d(3), (6, 3)),
        "without affine": (nn.BatchNorm2d(3, affine=False), (4, 3, 5, 6)),
        "untracked": (nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 5, 6)),
        "cumulative": (nn.BatchNorm1d(3, momentum=None), (6, 3)),
        "with activation": (BatchNormAct2d(3, act_layer=nn.ReLU6), (4, 3, 5, 6)),
    }


@pytest.mark.parametrize("name", layers())
def test_synchronise_batch_norm_one_worker_equals_pytorch(name):
    layer, shape = layers()[name]
    layer = layer.double()
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.data.uniform_(0.5, 2, generator=generator)
    converted = synchronise_batch_norm(copy.deepcopy(layer), CPU)
    assert isinstance(converted, GlobalBatchNorm)
    # Far from zero, where a variance computed in one pass loses digits.
    inputs = [5 + torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(3)]
    for module in (layer, converted):
        module.train()
    for x in inputs:
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        first, second = layer(one), converted(other)
        torch.testing.assert_close(first, second)
        first.square().sum().backward()
        second.square().sum().backward()
        torch.testing.assert_close(one.grad, other.grad, atol=1e-9, rtol=1e-6)
    assert layer.state_dict().keys() == converted.state_dict().keys()
    for key, value in layer.state_dict().items():
        torch.testing.assert_close(value, converted.state_dict()[key])
    for parameter, expected in zip(converted.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad)
    torch.testing.assert_close(layer.eval()(inputs[0]), converted.eval()(inputs[0]))


def test_synchronise_batch_norm_keeps_parameters_and_is_idempotent():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
    before = list(net.parameters())
    converted = synchronise_batch_norm(net, CPU)
    assert all(one is other for one, other in zip(before, converted.parameters(), strict=True))
    layer = converted[1]
    assert synchronise_batch_norm(converted, CPU)[1] is layer


def test_recompute_running_stats_averages_batches_and_restores_the_layers():
    net = nn.Sequential(nn.BatchNorm2d(2, momentum=0.3), nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).eval()
    batches = [torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(seed)) * 3 + 1 for seed in range(2)]
    net(torch.full((2, 2, 5, 5), 100.0))
    recompute_running_stats(net, iter(batches))
    torch.testing.assert_close(net[0].running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0))
    torch.testing.assert_close(net[0].running_var, torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0))
    assert not net[0].training
    assert (net[0].momentum, net[2].momentum) == (0.3, 0.1)
    out = net(torch.cat(batches))
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=0.2)


def test_use_batch_statistics_leaves_running_statistics_unchanged():
    layer = nn.BatchNorm2d(2).eval()
    images = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    before = copy.deepcopy(layer.state_dict())
    with use_batch_statistics(layer):
        torch.testing.assert_close(layer(images).mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    assert not layer.training
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
