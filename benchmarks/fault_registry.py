"""What the faults of benchmarks/faults.py share: their list, and what prepares them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fault_helpers import FaultStack, Queue

DONE = "done, equal result"
LEASE = 6.0


class Fault(NamedTuple):
    """A fault: its name, what is injected, what is expected, and the function that injects it and returns what is seen."""

    name: str
    injected: str
    expected: str
    inject: Callable[[FaultStack], str]


FAULTS: list[Fault] = []


def fault(name: str, injected: str, expected: str) -> Callable[[Callable[[FaultStack], str]], Callable[[FaultStack], str]]:
    """Register a fault."""

    def register(inject: Callable[[FaultStack], str]) -> Callable[[FaultStack], str]:
        FAULTS.append(Fault(name, injected, expected, inject))
        return inject

    return register


@contextmanager
def without_queue(stack: FaultStack) -> Iterator[Queue]:
    """The stack while its own dispatcher is away."""
    stack.signal("queue", signal.SIGKILL)
    yield Queue(stack)
    stack.up()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A tmpfs over a folder; what the folder held is back afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
