"""Batch normalisation with the statistics of the global batch: k workers with batch b / k agree with one with batch b."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adjobs import devices
from adjobs.nn.distributed import global_sum


class GlobalBatchNorm(_BatchNorm):
    """Batch normalisation over all workers, for CPUs; PyTorch's ``SyncBatchNorm`` requires GPUs.

    Args:
        replaced: the layer whose place it takes, with its parameters and buffers, and its activation if timm fused one into it.
    """

    def __init__(self, replaced: _BatchNorm) -> None:
        super().__init__(replaced.num_features, replaced.eps, replaced.momentum, replaced.affine, replaced.track_running_stats)
        self._parameters.update(replaced._parameters)
        self._buffers.update(replaced._buffers)
        # Only timm's BatchNormAct2d has these two; neither has state.
        self.drop, self.act = getattr(replaced, "drop", nn.Identity()), getattr(replaced, "act", nn.Identity())
        self.training = replaced.training

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, …)`` per channel, in training with the statistics of all workers."""
        if self.training or self.running_mean is None:
            y = self._normalise(x)
        else:
            y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        activated: Tensor = self.act(self.drop(y))
        return activated

    def _normalise(self, x: Tensor) -> Tensor:
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *([1] * (x.ndim - 2))]
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        count = torch.full((1,), x.numel() / x.shape[1], dtype=precise.dtype, device=x.device)
        sums = global_sum(torch.cat([precise.sum(dims), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = precise - mean.view(shape)
        # In two passes: E[x²] − E[x]² loses digits of the variance of channels that are far from zero.
        variance = global_sum(centred.square().sum(dims)) / total
        self._update_running_stats(mean.detach(), variance.detach(), float(total))
        y = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, variance: Tensor, total: float) -> None:
        """Update the running statistics; like PyTorch, with the unbiased variance."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        self.running_var.lerp_((variance * total / max(1.0, total - 1)).to(self.running_var.dtype), rate)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace batch normalisation layers by ones that synchronise workers; parameters stay the same objects.

    On GPUs by ``SyncBatchNorm``, through timm's converter: PyTorch's own drops the activations that timm fuses into some layers.
    Elsewhere by `GlobalBatchNorm`.
    """
    if devices.is_gpu(device):
        from timm.layers import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(module)
        return converted
    if isinstance(module, _BatchNorm):
        return module if isinstance(module, GlobalBatchNorm) else GlobalBatchNorm(module)
    for name, child in module.named_children():
        setattr(module, name, synchronise_batch_norm(child, device))
    return module


def recompute_running_stats(module: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Replace the running statistics of all batch normalisation layers by the means over the batches of ``inputs``.

    Statistics are not exchanged between workers: each passes the same inputs and computes the same statistics.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    batch_stats: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}

    def record(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        x = arguments[0]
        batch_stats[layer].append(torch.var_mean(x, [0, *range(2, x.ndim)]))

    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    try:
        with _batch_statistics(layers), torch.no_grad():
            for batch in inputs:
                module(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        if batch_stats[layer]:
            variance, mean = (torch.stack(values).mean(0) for values in zip(*batch_stats[layer], strict=True))
            layer.running_mean.copy_(mean)  # type: ignore[union-attr]
            layer.running_var.copy_(variance)  # type: ignore[union-attr]


@contextmanager
def use_batch_statistics(module: nn.Module) -> Iterator[None]:
    """Normalise with the statistics of the batch, as in training, without updating the running statistics."""
    with _batch_statistics([layer for layer in module.modules() if isinstance(layer, _BatchNorm)]):
        yield


@contextmanager
def _batch_statistics(layers: list[_BatchNorm]) -> Iterator[None]:
    states = [(layer.training, layer.momentum, layer.num_batches_tracked) for layer in layers]
    try:
        for layer in layers:
            layer.train()
            layer.momentum = 0.0
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked = layer.num_batches_tracked.clone()
        yield
    finally:
        for layer, (training, momentum, count) in zip(layers, states, strict=True):
            layer.train(training)
            layer.momentum = momentum
            layer.num_batches_tracked = count
