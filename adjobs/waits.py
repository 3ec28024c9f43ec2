"""A line for whatever takes longer than a moment, so that nobody wonders whether anything happens.

The process decides where the lines go: by default into the log of adjobs, which the command line shows; a worker on a cluster
sends them to its driver.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 3.0
"""What ends sooner is not worth a line."""

Announce = Callable[[str], object]

log = logging.getLogger(__name__)


def _log_line(text: str) -> None:
    log.info("%s ...", text)


_announce: contextvars.ContextVar[Announce] = contextvars.ContextVar("adjobs_announce", default=_log_line)


def announcer() -> Announce:
    """What shows a line here, to be called from other threads, too."""
    return _announce.get()


@contextmanager
def announcing(announce: Announce) -> Iterator[None]:
    """Show the lines of a block by this function, which other threads call."""
    token = _announce.set(announce)
    try:
        yield
    finally:
        _announce.reset(token)


@contextmanager
def waiting_for(text: str) -> Iterator[None]:
    """A block whose work is announced once it takes longer than `SECONDS`.

    Args:
        text: what is done, such as ``evaluating 120 test images``.
    """
    announce = announcer()
    if SECONDS <= 0:
        announce(text)
        yield
        return
    # In a copy of this context, to which the run belongs that a line names.
    timer = threading.Timer(SECONDS, contextvars.copy_context().run, (announce, text))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
