"""Waiting for jobs of the queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from adjobs.errors import QueueError
from adjobs.queue.client import QueueClient

ENDED = ("done", "failed", "stopped")
PATIENCE_SECONDS = 300.0
"""A queue that does not answer for this long is not waited for any more; it may be restarted meanwhile."""


def wait_for(client: QueueClient, jobs: Sequence[str], poll_seconds: float = 2.0) -> list[dict[str, Any]]:
    """Wait until jobs have ended, and say on standard error when one changes its state.

    Raises:
        QueueError: there is no such job, or the queue does not answer for minutes.
    """
    ended: dict[str, dict[str, Any]] = {}
    states: dict[str, str] = {}
    answered_at = time.monotonic()
    while len(ended) < len(set(jobs)):
        for name in jobs:
            if name in ended:
                continue
            try:
                job = client.get(name)
                answered_at = time.monotonic()
            except QueueError:
                if name not in states or time.monotonic() - answered_at > PATIENCE_SECONDS:
                    raise
                continue
            if states.get(name) != job["state"]:
                states[name] = job["state"]
                click.echo(f"job {job['id']}: {job['state']} ({job['explanation']})", err=True)
            if job["state"] in ENDED:
                ended[name] = job
        if len(ended) < len(set(jobs)):
            time.sleep(poll_seconds)
    return [ended[name] for name in jobs]
