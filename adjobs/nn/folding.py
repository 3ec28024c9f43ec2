"""Batch normalisation folded into the convolutions before it: a frozen network then computes the same with fewer operations."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

EXAMPLE_SHAPE = (1, 3, 64, 64)
TOLERANCE = 1e-3  # relative to the largest value of a map: rounding is far below, a wrong pair far above


def folded(network: nn.Module, example: Tensor | None = None) -> nn.Module:
    """A copy of a frozen network with its batch normalisation folded into convolutions, in evaluation mode.

    A pair is a convolution whose output is the input of a normalisation, as a pass of ``example`` shows. Where the copy does not
    compute the same, because an output is used twice for instance, it is returned without folding.

    Args:
        network: returns a tensor or a sequence of them.
        example: input of the network; None: an image of noise.
    """
    if example is None:
        example = torch.rand(EXAMPLE_SHAPE, generator=torch.Generator().manual_seed(0)).to(next(network.parameters()))
    plain = copy.deepcopy(network).requires_grad_(False).eval()
    candidate = copy.deepcopy(plain)
    with torch.no_grad():
        for convolution, name in _pairs(candidate, example):
            _fold(candidate, convolution, name)
        candidate.to(memory_format=torch.channels_last).requires_grad_(False)
        expected, actual = (_tensors(each(example)) for each in (plain, candidate))
    agree = all(_agree(a, b) for a, b in zip(expected, actual, strict=True))
    return candidate if agree else plain


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, str]]:
    """Each convolution with the name of the normalisation that takes its output; modules that are called twice are left out."""
    outputs: list[tuple[Tensor, nn.Conv2d]] = []
    pairs: list[tuple[nn.Conv2d, str]] = []
    calls: list[nn.Module] = []

    def after_convolution(module: nn.Module, args: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        calls.append(module)
        outputs.append((output, module))

    def before_normalisation(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        calls.append(module)
        pairs.extend((convolution, names[module]) for output, convolution in outputs if output is args[0])

    names: dict[nn.Module, str] = {module: name for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    hooks = [module.register_forward_pre_hook(before_normalisation) for module in names]
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks += [module.register_forward_hook(after_convolution) for module in convolutions]
    try:
        network(example)
    finally:
        for hook in hooks:
            hook.remove()
    modules = dict(network.named_modules())
    return [pair for pair in pairs if calls.count(pair[0]) == calls.count(modules[pair[1]]) == 1]


def _fold(network: nn.Module, convolution: nn.Conv2d, name: str) -> None:
    parent_name, _, attribute = name.rpartition(".")
    parent = network.get_submodule(parent_name)
    norm = getattr(parent, attribute)
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    convolution.weight, convolution.bias = weight, bias
    # timm fuses activations into some normalisation layers.
    setattr(parent, attribute, getattr(norm, "act", nn.Identity()))


def _tensors(output: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def _agree(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= TOLERANCE * a.abs().max())
