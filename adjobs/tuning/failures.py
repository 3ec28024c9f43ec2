"""How the end of a trial is read from an error: would it come again, did memory run out, or was a process lost?"""

from __future__ import annotations

from enum import Enum, auto

import torch

# Of PyTorch on processors, and the names of PyTorch's, Ray's and Python's exceptions in the errors of ``training.backends.ray``.
OUT_OF_MEMORY_TEXTS = ("can't allocate memory", "OutOfMemoryError", "MemoryError")
# Of Ray's memory monitor, which kills before the system does, and then lists the processes of the node.
MEMORY_MONITOR_TEXT = "running low on memory"
# Errors of ours that may not come again: a service was away.
TRANSIENT_ERRORS = ("errors.TrackingError", "errors.StorageError")
TRACEBACK_MARK = "ray::"  # Ray puts the title of the process before a traceback


class FailureKind(Enum):
    """What an error means for a trial."""

    EXCEPTION = auto()
    """The program raised it, and would again."""
    OUT_OF_MEMORY = auto()
    PROCESS_LOST = auto()
    """A process or a service went away."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out. PyTorch on processors says so in words alone, and of other processes only Ray's words are known."""
    is_known_type = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_known_type or any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)


def classify_error(text: str) -> FailureKind:
    """Read the error text that Ray Tune wrote for a trial whose process raised or ended."""
    if MEMORY_MONITOR_TEXT in text:
        return FailureKind.OUT_OF_MEMORY
    if TRACEBACK_MARK in text and not any(name in last_line(text) for name in TRANSIENT_ERRORS):
        return FailureKind.EXCEPTION
    # The system may have killed it for memory: Ray names that among the causes of any lost process.
    return FailureKind.PROCESS_LOST


def last_line(text: str) -> str:
    """The last line that is not empty, which names the exception in a traceback; "" if there is none."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()
