"""The mean of a network's weights over its training, which predicts better than the last ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class WeightAverage(nn.Module):
    """Exponential moving average of a module's parameters, held as buffers: it is stored with them and never trained.

    The module has no buffers that matter, such as those of batch normalisation.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._names = [name for name, _ in module.named_parameters()]
        for name, parameter in module.named_parameters():
            self.register_buffer(_key(name), parameter.detach().clone())

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float, step: int) -> None:
        """Take up the module's weights after ``step`` ≥ 0 updates; early on they count more, so that the first are forgotten."""
        # As in TensorFlow's ExponentialMovingAverage: a short training would otherwise answer with its random beginning.
        weight = 1 - min(decay, (1 + step) / (10 + step))
        averages = [self.get_buffer(_key(name)) for name in self._names]
        torch._foreach_lerp_(averages, [p.detach() for p in module.parameters()], weight)

    @torch.no_grad()
    def give(self, module: nn.Module) -> None:
        """Put the mean into the module."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.get_buffer(_key(name)))

    def call(self, module: nn.Module, *inputs: Any) -> Tensor:
        """What the module answers with the mean in place of its own weights."""
        found: Tensor = functional_call(module, {name: self.get_buffer(_key(name)) for name in self._names}, inputs)
        return found


def _key(name: str) -> str:
    """Names of buffers hold no dots."""
    return name.replace(".", "-")
