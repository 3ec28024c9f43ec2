"""Optimizers as the loop runs them: one launch for all parameters, and a learning rate that captured steps read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer


def use_fused(optimizer: Optimizer, device: torch.device, *, captured: bool) -> None:
    """Update all parameters at once, instead of with several operations each; call it again after a state was loaded.

    Args:
        optimizer: one of a class that has no fused updates is left as it is.
        device: of its parameters.
        captured: keep the learning rate in a tensor on the device, whose value captured work reads when it is repeated.
    """
    for group in optimizer.param_groups:
        if "fused" in group:
            group["fused"], group["foreach"] = True, False
        if captured:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
    for state in optimizer.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(device)


def set_learning_rates(optimizer: Optimizer, rates: Sequence[float]) -> None:
    """Set the learning rate of each parameter group, in place where it is a tensor."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def can_be_captured(optimizer: Optimizer) -> bool:
    """Whether its updates read the learning rate from a tensor and keep all counters on the device."""
    return all("fused" in group for group in optimizer.param_groups)


@contextmanager
def capturable(optimizer: Optimizer) -> Iterator[None]:
    """Tell an optimizer that its steps are captured; a captured one goes on as it is, and others would warn of the setting."""
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False
