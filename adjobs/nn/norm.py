"""Batch normalisation with the statistics of the global batch, so that k workers with batch b / k agree with one with batch b."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adjobs.nn.distributed import global_sum


class GlobalBatchNorm(_BatchNorm):
    """Takes the place of a batch normalisation layer, with its parameters and buffers, and its activation where timm fuses one.

    For processors: PyTorch's own ``SyncBatchNorm`` wants GPUs.
    """

    def __init__(self, replaced: _BatchNorm) -> None:
        super().__init__(replaced.num_features, replaced.eps, replaced.momentum, replaced.affine, replaced.track_running_stats)
        self._parameters.update(replaced._parameters)
        self._buffers.update(replaced._buffers)
        # timm's BatchNormAct2d holds them; neither has a state.
        self.drop, self.act = getattr(replaced, "drop", nn.Identity()), getattr(replaced, "act", nn.Identity())
        self.training = replaced.training

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, …)`` over all but the channels, in training over all workers' shares."""
        if self.training or self.running_mean is None:
            y = self._normalised(x)
        else:
            y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        activated: Tensor = self.act(self.drop(y))
        return activated

    def _normalised(self, x: Tensor) -> Tensor:
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *([1] * (x.ndim - 2))]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count = torch.full((1,), x.numel() / x.shape[1], dtype=wide.dtype, device=x.device)
        sums = global_sum(torch.cat([wide.sum(dims), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = wide - mean.view(shape)
        # In two passes: E[x²] − E[x]² loses the variance of channels that are far from zero.
        variance = global_sum(centred.square().sum(dims)) / total
        self._follow(mean.detach(), variance.detach(), float(total))
        y = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, total: float) -> None:
        """Move the running statistics, the variance without bias as PyTorch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_((variance * total / max(1.0, total - 1)).to(self.running_var.dtype), rate)


def synchronised(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace batch normalisation by one whose statistics are those of all workers' shares; parameters stay the same objects.

    On GPUs by PyTorch's, through timm's converter, because PyTorch's own drops the activation that timm fuses into some of its
    layers; elsewhere by `GlobalBatchNorm`.
    """
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(module)
        return converted
    if isinstance(module, _BatchNorm):
        return module if isinstance(module, GlobalBatchNorm) else GlobalBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, synchronised(child, device))
    return module


def recalibrate(module: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Take the running statistics of all batch normalisation layers anew, as means over the batches of ``inputs``.

    Every worker gives the same inputs and gets the same statistics; none are exchanged.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    found: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}

    def look(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        x = arguments[0]
        found[layer].append(torch.var_mean(x, [0, *range(2, x.ndim)]))

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with _normalising(layers, momentum=0.0), torch.no_grad():
            for batch in inputs:
                module(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        if found[layer]:
            variance, mean = (torch.stack(values).mean(0) for values in zip(*found[layer], strict=True))
            layer.running_mean.copy_(mean)  # type: ignore[union-attr]
            layer.running_var.copy_(variance)  # type: ignore[union-attr]


@contextmanager
def of_the_batch(module: nn.Module) -> Iterator[None]:
    """Normalise with the statistics of the batch, as in training, and leave the running ones as they are."""
    with _normalising([layer for layer in module.modules() if isinstance(layer, _BatchNorm)], momentum=0.0):
        yield


@contextmanager
def _normalising(layers: list[_BatchNorm], momentum: float) -> Iterator[None]:
    before = [(layer.training, layer.momentum, layer.num_batches_tracked) for layer in layers]
    try:
        for layer in layers:
            layer.train()
            layer.momentum = momentum
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked = layer.num_batches_tracked.clone()
        yield
    finally:
        for layer, (training, own, count) in zip(layers, before, strict=True):
            layer.train(training)
            layer.momentum = own
            layer.num_batches_tracked = count
