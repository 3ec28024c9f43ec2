"""Exponential moving average of a network's weights, which often predicts better than the last ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class WeightAverage(nn.Module):
    """Exponential moving average of a module's parameters, as buffers: stored with the model, never trained.

    Buffers of the module, such as those of batch normalisation, are not averaged.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._names = [name for name, _ in module.named_parameters()]
        for name, parameter in module.named_parameters():
            self.register_buffer(_buffer_name(name), parameter.detach().clone())

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float, step: Tensor) -> None:
        """Add the module's weights after ``step`` ≥ 0 updates, a scalar on their device.

        Early weights get a smaller decay, as in TensorFlow's ExponentialMovingAverage; otherwise the random initialisation would
        dominate the average of a short training.
        """
        weight = 1 - ((1 + step) / (10 + step)).clamp_max(decay)
        averages = [self.get_buffer(_buffer_name(name)) for name in self._names]
        gaps = torch._foreach_sub([p.detach() for p in module.parameters()], averages)
        torch._foreach_mul_(gaps, weight.to(gaps[0].dtype))
        torch._foreach_add_(averages, gaps)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Overwrite the module's parameters with the average."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.get_buffer(_buffer_name(name)))

    def call(self, module: nn.Module, *inputs: Any) -> Tensor:
        """Call the module with the average in place of its own parameters."""
        averages = {name: self.get_buffer(_buffer_name(name)) for name in self._names}
        output: Tensor = functional_call(module, averages, inputs)
        return output


def _buffer_name(parameter_name: str) -> str:
    """Names of buffers must not contain dots."""
    return parameter_name.replace(".", "-")
