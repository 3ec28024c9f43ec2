"""Seconds of work that a device may do after the call that starts it; without adjobs, which may be an older build."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done the work."""
    synchronise(device)
    started_at = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started_at
