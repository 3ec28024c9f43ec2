"""Waiting for jobs of the queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from adjobs.cli.jobs.text import ENDED
from adjobs.errors import QueueUnavailableError

if TYPE_CHECKING:
    from adjobs.queue.client import QueueClient

PATIENCE_SECONDS = 300.0
"""A queue that does not answer for this long is not waited for any more; it may be restarted meanwhile."""

Answer = TypeVar("Answer")


class Patience:
    """Asks a queue that may be restarted meanwhile, but must have answered once."""

    def __init__(self) -> None:
        self._answered_at: float | None = None

    def ask(self, request: Callable[[], Answer]) -> Answer | None:
        """What the queue answers; None as long as it does not.

        Raises:
            QueueError: it refuses.
            QueueUnavailableError: it has never answered, or not for minutes.
        """
        try:
            answer = request()
        except QueueUnavailableError:
            if self._answered_at is None or time.monotonic() - self._answered_at > PATIENCE_SECONDS:
                raise
            return None
        self._answered_at = time.monotonic()
        return answer


def wait_for(client: QueueClient, jobs: Sequence[str], poll_seconds: float = 2.0) -> list[dict[str, Any]]:
    """Wait until jobs have ended, and say on standard error when one changes its state.

    Raises:
        QueueError: there is no such job, the token is refused, or the queue does not answer for minutes.
    """
    ended: dict[str, dict[str, Any]] = {}
    states: dict[str, str] = {}
    patience = Patience()
    while len(ended) < len(set(jobs)):
        for name in jobs:
            job = None if name in ended else patience.ask(partial(client.get, name))
            if job is None:
                continue
            if states.get(name) != job["state"]:
                states[name] = job["state"]
                click.echo(f"job {job['id']}: {job['state']} ({job['explanation']})", err=True)
            if job["state"] in ENDED:
                ended[name] = job
        if len(ended) < len(set(jobs)):
            time.sleep(poll_seconds)
    return [ended[name] for name in jobs]
