"""Frozen networks with folded batch normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from adjobs.backbones import create_backbone
from adjobs.methods.slsg.networks import Encoder
from adjobs.nn.folding import folded
from tests.helpers.randomness import generator


def randomise(network: nn.Module) -> nn.Module:
    """Statistics and scales that are not those of a new layer."""
    draw = generator()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(torch.randn(tensor.shape, generator=draw) / 10)
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
    return network


def count(network: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in network.modules())


NETWORKS = {
    "lite0": lambda: create_backbone("tf_efficientnet_lite0", "none"),
    "resnet18": lambda: create_backbone("resnet18", "none"),
    "hrnet": lambda: create_backbone("hrnet_w18", "none"),
    "encoder": lambda: Encoder(16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_everything_is_folded_and_computes_the_same(name):
    network = randomise(NETWORKS[name]()).to(memory_format=torch.channels_last).eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    lean = folded(network)
    assert count(lean) == 0
    images = torch.rand(2, 3, 96, 96, generator=generator(1))
    with torch.no_grad():
        for actual, expected in zip(lean(images), network(images), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in lean.parameters())


class Shared(nn.Module):
    """A convolution whose output is used beside its normalisation too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv(images)
        return x + self.norm(x)


def test_what_would_compute_something_else_is_left_as_it_is():
    network = randomise(Shared()).eval()
    images = torch.rand(1, 3, 8, 8, generator=generator())
    lean = folded(network, images)
    assert count(lean) == 1
    torch.testing.assert_close(lean(images), network(images))


def test_a_layer_that_is_called_twice_is_left_as_it_is():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.norm(self.second(self.norm(self.first(images))))

    assert count(folded(randomise(Twice()).eval(), torch.rand(1, 3, 8, 8, generator=generator()))) == 1
