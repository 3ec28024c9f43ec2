"""What a device can do, and how much memory was used on it."""

from __future__ import annotations

import resource
import sys

import psutil
import torch

from adjobs.evaluation.evaluate import DeviceConfig


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory of this process in MiB.

    On a GPU what PyTorch reserved at most, without the CUDA context. On a CPU the peak of resident memory without mapped files,
    which other processes share (decoded images, cached features); the present size of the mappings stands for that at the peak.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return float(peak - getattr(psutil.Process().memory_info(), "shared", 0)) / 2**20


def resolve_precision(precision: str, device: torch.device) -> DeviceConfig:
    """Resolve ``auto``, ``fp32`` or ``bf16`` for a device: bf16 is automatic only on GPUs that compute in it."""
    automatic = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return DeviceConfig(device, torch.bfloat16 if precision == "bf16" or (precision == "auto" and automatic) else None)
