"""What a device can do, and what it has spent."""

from __future__ import annotations

import psutil
import torch

from adjobs.evaluation.evaluate import DeviceConfig


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory: allocated on the GPU, or resident in this process now, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20


def resolve_precision(precision: str, device: torch.device) -> DeviceConfig:
    """Resolve ``auto``, ``fp32`` or ``bf16`` for a device: bf16 is automatic only on GPUs that compute in it."""
    automatic = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return DeviceConfig(device, torch.bfloat16 if precision == "bf16" or (precision == "auto" and automatic) else None)
