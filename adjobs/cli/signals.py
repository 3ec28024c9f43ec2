"""Signals of the command line: SIGTERM unwinds a verb as Ctrl-C does, and a training that is stopped finds its runs closed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A cluster that died under its driver can hold up the driver's own end for minutes.
SECONDS_TO_STOP = 10.0
SIGNAL_STATUS = 128
"""Added to the number of the signal that ended a process, gives its exit status, as in shells."""


class StopSignal:
    """The signal that stops this verb: SIGINT (Ctrl-C), unless SIGTERM came."""

    number: int = signal.SIGINT

    @property
    def exit_status(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return SIGNAL_STATUS + self.number


@contextmanager
def unwind_on_termination() -> Iterator[StopSignal]:
    """On SIGTERM, raise KeyboardInterrupt, so that nothing is left half-written; says which signal it was."""
    stop = StopSignal()

    def terminate(number: int, frame: FrameType | None) -> None:
        stop.number = number
        raise KeyboardInterrupt  # the one exception that Ray lets through when a signal comes while it waits

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield stop
        return
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def handle_termination() -> Iterator[None]:
    """On SIGTERM, mark the open runs as killed before unwinding; the process ends even if something holds that up."""
    from adjobs.jobs.lifecycle import close_open_runs

    deadline = threading.Timer(SECONDS_TO_STOP, os._exit, (SIGNAL_STATUS + signal.SIGTERM,))
    deadline.daemon = True
    unwind = signal.getsignal(signal.SIGTERM)

    def terminate(number: int, frame: FrameType | None) -> None:
        if not deadline.is_alive():
            deadline.start()
        # The sender may kill this process in a moment (Ray: after three seconds): runs are closed before anything is torn down.
        close_open_runs()
        if callable(unwind):
            unwind(number, frame)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        deadline.cancel()
        signal.signal(signal.SIGTERM, unwind)
