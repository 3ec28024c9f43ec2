"""Totals of the queue that only grow: written with each change of a state, they survive restarts and prunes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import sqlalchemy as sa

from adjobs.queue.records import QueuedJob
from adjobs.queue.schema import figures
from adjobs.queue.states import ENDED, HOLDING_SLOT, JobState

BUCKETS = (10.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 86_400.0, 259_200.0, float("inf"))
"""Upper bounds of the histograms, in seconds: from ten seconds to three days, and all above."""

ENDED_TOTAL, LOST_TOTAL, WAITING, RUNNING = "ended", "lost", "waiting", "running"
SUM = "sum"
"""Label of the sum of all values of a histogram; that of a bucket is its upper bound."""

Figures = dict[tuple[str, str], float]
"""Values by name and label."""

# The same in SQLite and PostgreSQL.
_ADD = sa.text(
    f"insert into {figures.name} (name, label, value) values (:name, :label, :value) "
    f"on conflict (name, label) do update set value = {figures.name}.value + excluded.value"
)


def count_change(connection: sa.Connection, job: QueuedJob, state: JobState, now: float) -> None:
    """Add what a job's change of state changes."""
    rows = [{"name": name, "label": label, "value": value} for name, label, value in _changes(job, state, now)]
    if rows:
        connection.execute(_ADD, rows)


def read_figures(connection: sa.Connection) -> Figures:
    """All of them; what has never happened is missing."""
    return {(row.name, row.label): row.value for row in connection.execute(sa.select(figures))}


def _changes(job: QueuedJob, state: JobState, now: float) -> Iterator[tuple[str, str, float]]:
    if state in ENDED:
        yield ENDED_TOTAL, state.value, 1.0
    if state is JobState.STARTING and job.attempt == 0:
        yield from _observe(WAITING, now - job.created_at)
    if job.state in HOLDING_SLOT and state is JobState.QUEUED:
        yield LOST_TOTAL, "", 1.0
    if job.state in HOLDING_SLOT and state not in HOLDING_SLOT and job.started_at is not None:
        yield from _observe(RUNNING, now - job.started_at)


def _observe(name: str, seconds: float) -> Iterator[tuple[str, str, float]]:
    """A value of a histogram; one that a clock set back has made negative counts as none."""
    value = max(0.0, seconds)
    yield name, f"{BUCKETS[bisect_left(BUCKETS, value)]:g}", 1.0
    yield name, SUM, value
