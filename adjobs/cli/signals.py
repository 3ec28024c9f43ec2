"""Signals of the command line: a verb that is stopped closes its runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from adjobs.errors import EXIT_STOPPED

# A cluster that died under its driver can hold up the driver's own end for minutes.
SECONDS_TO_STOP = 10.0


@contextmanager
def handle_termination() -> Iterator[None]:
    """On SIGTERM, mark the open runs as killed, then unwind; the process ends even if something holds that up."""
    from adjobs.jobs.lifecycle import close_open_runs

    deadline = threading.Timer(SECONDS_TO_STOP, os._exit, (EXIT_STOPPED,))
    deadline.daemon = True

    def terminate(number: int, frame: FrameType | None) -> None:
        if not deadline.is_alive():
            deadline.start()
        # The sender may kill this process soon (Ray: after three seconds), so runs are closed before anything is torn down.
        close_open_runs()
        raise KeyboardInterrupt  # the one exception that Ray lets through when a signal comes while it waits

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        deadline.cancel()
        signal.signal(signal.SIGTERM, previous)
