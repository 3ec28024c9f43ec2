"""Signals of the command line: Ctrl-C and SIGTERM unwind a verb, and a training that is stopped finds its runs closed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS_TO_STOP = 10.0
"""A process that is stopped ends after this time, whatever holds it up: a cluster that died, threads that wait forever."""

_SECONDS_TO_REPEAT = 1.0  # programs that start others may pass a Ctrl-C on that the terminal has sent already
_STATUS_OF_SIGNALS = 128  # added to the number of a signal, gives the exit status that shells report
_before_unwinding: list[Callable[[], None]] = []


class StopSignal:
    """The signal that stops a verb, and a thread that ends the process if it does not unwind in time.

    Attributes:
        number: SIGINT (Ctrl-C), or SIGTERM if that came first.
        is_reported: whether the message was printed.
    """

    def __init__(self) -> None:
        self.number = int(signal.SIGINT)
        self.is_reported = False
        self._received_at: float | None = None
        self._received, self._unwound = threading.Event(), threading.Event()
        # Started now: a handler that starts a thread would wait forever if it interrupted the start of another.
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def exit_status(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return _STATUS_OF_SIGNALS + self.number

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Unwind, as the handler of a signal; a second Ctrl-C ends the process at once."""
        if self._received_at is not None:
            if number == signal.SIGINT and time.monotonic() - self._received_at > _SECONDS_TO_REPEAT:
                self._exit()
            return
        self._received_at, self.number = time.monotonic(), number
        self._received.set()
        for action in _before_unwinding:
            action()
        raise KeyboardInterrupt  # the one exception that Ray lets through when a signal comes while it waits

    def close(self) -> None:
        """End the thread: the verb has unwound."""
        self._unwound.set()
        self._received.set()

    def _watch(self) -> None:
        self._received.wait()
        if not self._unwound.wait(SECONDS_TO_STOP):
            self._exit()

    def _exit(self) -> None:
        if not self.is_reported:
            os.write(2, b"stopped\n")
        os._exit(self.exit_status)


@contextmanager
def unwind_on_signals() -> Iterator[StopSignal]:
    """On Ctrl-C and SIGTERM, raise KeyboardInterrupt, so that nothing is left half-written; says which of them came."""
    stop = StopSignal()
    handlers: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        for number in (int(signal.SIGINT), int(signal.SIGTERM)):
            if signal.getsignal(number) != signal.SIG_IGN:  # as it is in the background of a shell, or under nohup
                handlers[number] = signal.signal(number, stop.handle)
    try:
        yield stop
    finally:
        stop.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def close_runs_when_stopped() -> Iterator[None]:
    """Mark open runs as killed before a signal unwinds the verb: the sender may kill in a moment (Ray: after three seconds)."""
    from adjobs.jobs.lifecycle import close_open_runs

    _before_unwinding.append(close_open_runs)
    try:
        yield
    finally:
        _before_unwinding.remove(close_open_runs)
