"""What a device can do, and how much memory was used on it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

import psutil
import torch

from adjobs import devices
from adjobs.evaluation.evaluate import DeviceConfig


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory of this process in MiB.

    On a GPU what PyTorch reserved at most, without the CUDA context. On a CPU the peak of resident memory without mapped files,
    which other processes share (decoded images, cached features); the present size of the mappings stands for that at the peak.
    """
    if devices.is_gpu(device):
        return devices.peak_reserved_bytes(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return float(peak - getattr(psutil.Process().memory_info(), "shared", 0)) / 2**20


def release_memory(device: torch.device) -> None:
    """Free the memory that an earlier training of this process left behind, and reset the peaks."""
    gc.collect()
    # Each trial is a thread with a heap of its own, and glibc keeps what is freed there.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with contextlib.suppress(OSError):  # not on Linux: then the peak of an earlier training counts, too
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak (proc_pid_clear_refs(5))
    devices.release_cached_memory(device)


def resolve_precision(precision: str, device: torch.device) -> DeviceConfig:
    """Resolve ``auto``, ``fp32`` or ``bf16`` for a device: bf16 is automatic only on GPUs that compute in it."""
    automatic = devices.computes_bfloat16(device)
    return DeviceConfig(device, torch.bfloat16 if precision == "bf16" or (precision == "auto" and automatic) else None)
