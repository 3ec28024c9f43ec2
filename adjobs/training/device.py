"""What a device can do, and what it has spent."""

from __future__ import annotations

import psutil
import torch

from adjobs.evaluation.evaluate import Runner


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory: allocated on the GPU, or resident in this process now, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20


def choose_runner(precision: str, device: torch.device) -> Runner:
    """Resolve ``auto``, ``fp32`` or ``bf16`` for a device: bf16 is automatic only on GPUs that compute in it."""
    automatic = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return Runner(device, torch.bfloat16 if precision == "bf16" or (precision == "auto" and automatic) else None)
