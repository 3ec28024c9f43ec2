"""Statistics over the global batch, so that k workers with batch b / k agree with one worker with batch b."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _GlobalSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Every worker computes the same function of the same sum, so the incoming gradient is the same everywhere.
        # DistributedDataParallel will average over the workers; the sum's gradient needs the sum, hence the factor.
        return grads[0] * dist.get_world_size()


def global_sum(value: Tensor) -> Tensor:
    """Sum over all workers, differentiable under DistributedDataParallel; the value itself when there is one worker.

    The gradient is scaled for a loss that every worker computes from global sums and that
    DistributedDataParallel then averages.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    return _GlobalSum.apply(value)  # type: ignore[no-any-return]
