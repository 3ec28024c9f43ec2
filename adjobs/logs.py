"""Which run a log record belongs to: several jobs may run in one process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_run_id: ContextVar[str | None] = ContextVar("adjobs_run_id", default=None)


@contextmanager
def run_context(run_id: str) -> Iterator[None]:
    """Records logged within belong to a run."""
    token = _run_id.set(run_id)
    try:
        yield
    finally:
        _run_id.reset(token)


class RunFormatter(logging.Formatter):
    """Puts ``run`` and the first eight digits of its id before the message of a record that belongs to one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        run_id = _run_id.get()
        message = super().format(record)
        return message if run_id is None else f"run {run_id[:8]}: {message}"
