"""Convolutions with TensorFlow's padding."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from adjobs.nn.same_padding import SameConv2d, replace_same_padding
from tests.helpers.randomness import generator


@pytest.mark.parametrize(("kernel", "groups", "bias"), [(3, 1, True), (3, 8, False), (5, 8, False), (7, 2, True)])
def test_values_and_gradients_are_timms(kernel, groups, bias):
    original = Conv2dSame(8, 8, kernel, stride=2, groups=groups, bias=bias)
    own = SameConv2d.replacing(original)
    x = torch.rand(2, 8, 12, 32, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(own(x), original(x))
    (gradient,), (expected,) = (torch.autograd.grad(layer(x).square().sum(), layer.weight) for layer in (own, original))
    torch.testing.assert_close(gradient, expected)


def test_only_layers_that_it_stands_for_are_replaced_and_the_state_stays():
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    before = sum(isinstance(module, Conv2dSame) for module in network.modules())
    replace_same_padding(network)
    assert sum(isinstance(module, SameConv2d) for module in network.modules()) == before > 0
    assert list(network.state_dict()) == list(state)
    others = nn.Sequential(
        Conv2dSame(3, 3, 3, stride=1), Conv2dSame(3, 3, 2, stride=2), Conv2dSame(3, 3, 3, stride=2, dilation=2)
    )
    replace_same_padding(others)
    assert not any(isinstance(module, SameConv2d) for module in others)
