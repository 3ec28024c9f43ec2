"""Sums and means over the global batch, so that k workers with batch b / k agree with one worker with batch b."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _GlobalSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _all_reduce(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # The sum enters the loss of every worker, and DistributedDataParallel averages the gradients over the workers.
        return _all_reduce(grads[0])


def _all_reduce(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    dist.all_reduce(total)
    return total


def global_sum(value: Tensor) -> Tensor:
    """Sum over all workers, differentiable; the value itself if there is one worker.

    The gradient is correct for a loss that every worker computes from global sums and DistributedDataParallel averages.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    return _GlobalSum.apply(value)  # type: ignore[no-any-return]


@torch.no_grad()
def broadcast_buffers(module: nn.Module) -> None:
    """Give every worker the buffers of the first one: another machine may compute them slightly differently."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    for buffer in module.buffers():
        contiguous = buffer.contiguous()
        dist.broadcast(contiguous, 0)
        buffer.copy_(contiguous)


def global_mean(values: Tensor) -> Tensor:
    """Mean over the images of all workers; ``values`` ``(B, …)`` are those of this worker's images."""
    return global_sum(values.sum(0)) / global_sum(torch.full((), float(len(values)), device=values.device))
