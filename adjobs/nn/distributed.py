"""Statistics over the global batch, so that k workers with batch b / k agree with one worker with batch b."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _GlobalSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _all_reduced(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # What each worker makes of the sum counts. DistributedDataParallel will average the gradients over the workers.
        return _all_reduced(grads[0])


def _all_reduced(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    dist.all_reduce(total)
    return total


def global_sum(value: Tensor) -> Tensor:
    """Sum over all workers, differentiable under DistributedDataParallel; the value itself when there is one worker.

    The gradient is right for a loss that every worker computes from global sums and that DistributedDataParallel then averages.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    return _GlobalSum.apply(value)  # type: ignore[no-any-return]


@torch.no_grad()
def take_from_first(module: nn.Module) -> None:
    """Give every worker the buffers of the first one, which another machine may have computed a little differently."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    for buffer in module.buffers():
        sent = buffer.contiguous()
        dist.broadcast(sent, 0)
        buffer.copy_(sent)


def global_mean(values: Tensor) -> Tensor:
    """Mean over the images of all workers of ``(B, …)`` values, one row for each image of this worker."""
    return global_sum(values.sum(0)) / global_sum(torch.full((), float(len(values)), device=values.device))
