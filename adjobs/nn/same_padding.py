"""TensorFlow's "same" padding, one more at the lower and right border than at the others, without a padded copy of the input."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """A convolution of stride 2 whose padding TensorFlow calls "same", for odd square kernels and inputs with even sides.

    PyTorch pads all borders alike. Padding the input first takes longer than the convolution; on a processor a kernel with a row
    and a column of zeros before the others gives the same values, in a sixth of the time for a depthwise convolution. Not with
    gradients, which are slower that way, and not where a graph is exported, whose runtime pads by itself.
    """

    @classmethod
    def replacing(cls, layer: nn.Conv2d) -> Self:
        """A layer with the parameters of another."""
        own = cls(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size[0],
            stride=2,
            groups=layer.groups,
            bias=layer.bias is not None,
            device="meta",
        )
        own.weight, own.bias = layer.weight, layer.bias
        return own.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', H / 2, W / 2)``."""
        before, after = (self.kernel_size[0] - 3) // 2, (self.kernel_size[0] - 1) // 2
        trains = torch.is_grad_enabled() and (self.weight.requires_grad or x.requires_grad)
        if x.device.type == "cpu" and not trains and not torch.compiler.is_exporting():
            weight = F.pad(self.weight, (1, 0, 1, 0))
            return F.conv2d(x, weight, self.bias, self.stride, after, groups=self.groups)
        return F.conv2d(F.pad(x, (before, after, before, after)), self.weight, self.bias, self.stride, groups=self.groups)


def replace_same_padding(network: nn.Module) -> None:
    """Replace those layers of a timm network that `SameConv2d` stands for."""
    # Slow to import.
    from timm.layers.conv2d_same import Conv2dSame

    for name, module in list(network.named_modules()):
        if isinstance(module, Conv2dSame) and _is_covered(module):
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, SameConv2d.replacing(module))


def _is_covered(layer: nn.Conv2d) -> bool:
    height, width = layer.kernel_size
    return layer.stride == (2, 2) and layer.dilation == (1, 1) and height == width >= 3 and height % 2 == 1
