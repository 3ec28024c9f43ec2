"""How long a job takes and what memory it needs, from equal jobs that are done; nothing where there is none."""

from __future__ import annotations

import heapq
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from adjobs.queue.dispatcher import Limits
from adjobs.queue.records import QueuedJob
from adjobs.queue.schema import jobs
from adjobs.queue.states import HOLDING_SLOT, JobState
from adjobs.queue.store import JobStore

MAX_JOBS = 200
"""Done jobs of the same method, the latest, among which equal ones are searched."""

MAX_AHEAD = 200
"""Jobs ahead in the queue for which it is worked out when they end."""


class Estimate(NamedTuple):
    """What equal jobs took.

    Attributes:
        jobs: number of them.
        seconds: median of their durations.
        memory_mib: the most that driver and workers of one had in memory together; None: not known.
        gpu_memory_mib: the most that the workers of one had in GPU memory together; None: not known, or no GPU.
    """

    jobs: int
    seconds: float
    memory_mib: float | None
    gpu_memory_mib: float | None


class Estimates:
    """Estimates at one moment."""

    def __init__(self, store: JobStore, now: float) -> None:
        """Without reading anything.

        Args:
            store: the record of the jobs.
            now: the time, in seconds since the epoch.
        """
        self._store, self._now = store, now
        self._done: dict[str, dict[str, list[QueuedJob]]] = {}  # by method and likeness

    def of(self, spec: Mapping[str, Any]) -> Estimate | None:
        """What a job will take; None if no equal one is done."""
        method = _document(spec).get("method")
        if not isinstance(method, str):
            return None
        if method not in self._done:
            self._done[method] = self._read(method)
        equal = self._done[method].get(likeness(spec), [])
        if not equal:
            return None
        seconds = statistics.median((job.ended_at or 0.0) - (job.started_at or 0.0) for job in equal)
        return Estimate(len(equal), seconds, _most(equal, "memory_mib"), _most(equal, "gpu_memory_mib"))

    def seconds_to_start(self, limits: Limits, user: str, priority: int) -> float | None:
        """When a job that a user submits now would start, in seconds from now; None if that is not known."""
        holding = self._store.select(HOLDING_SLOT)
        ahead = self._ahead(priority)
        if limits.max_per_user is not None and sum(job.user == user for job in (*holding, *ahead)) >= limits.max_per_user:
            return None
        if len(holding) + len(ahead) < limits.slots:
            return 0.0
        if len(ahead) > MAX_AHEAD:
            return None
        left = [self._seconds_left(job) for job in holding]
        durations = [self._seconds_left(job) for job in ahead]
        known = [seconds for seconds in (*left, *durations) if seconds is not None]
        if len(known) < len(left) + len(durations):
            return None
        free_at = [*known[: len(left)], *[0.0] * (limits.slots - len(left))]
        heapq.heapify(free_at)
        for seconds in known[len(left) :]:
            heapq.heapreplace(free_at, free_at[0] + seconds)
        return free_at[0]

    def _ahead(self, priority: int) -> list[QueuedJob]:
        """The queued jobs that start before a new one of this priority, in their order; at most one more than is worked out."""
        is_ahead = (jobs.c.state == JobState.QUEUED.value) & (jobs.c.priority >= priority)
        query = sa.select(jobs).where(is_ahead).order_by(jobs.c.priority.desc(), jobs.c.seq).limit(MAX_AHEAD + 1)
        with self._store.reading() as connection:
            return [QueuedJob.from_row(row) for row in connection.execute(query).mappings()]

    def _seconds_left(self, job: QueuedJob) -> float | None:
        estimate = self.of(job.spec)
        if estimate is None:
            return None
        elapsed = self._now - job.started_at if job.state in HOLDING_SLOT and job.started_at is not None else 0.0
        return max(0.0, estimate.seconds - elapsed)

    def _read(self, method: str) -> dict[str, list[QueuedJob]]:
        is_done = (jobs.c.state == JobState.DONE.value) & (jobs.c.attempt == 1)  # later attempts go on from a checkpoint
        is_done &= jobs.c.spec["document", "method"].as_string() == method
        query = sa.select(jobs).where(is_done).order_by(jobs.c.seq.desc()).limit(MAX_JOBS)
        groups: dict[str, list[QueuedJob]] = {}
        with self._store.reading() as connection:
            for row in connection.execute(query).mappings():
                job = QueuedJob.from_row(row)
                groups.setdefault(likeness(job.spec), []).append(job)
        return groups


def likeness(spec: Mapping[str, Any]) -> str:
    """What jobs must have in common to take equally long: verb, method, parameters, data, size, workers, search, own code."""
    document = _document(spec)
    data, train = document.get("data"), document.get("train")
    of_data = {key: value for key, value in data.items() if key != "seed"} if isinstance(data, dict) else data
    of_train = {key: value for key, value in train.items() if key != "seed"} if isinstance(train, dict) else train
    values = (document.get("method"), document.get("params"), of_data, of_train)
    return json.dumps([values, *(spec.get(key) for key in ("verb", "space", "options", "working_dir"))], sort_keys=True)


def _document(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    document = spec.get("document")
    return document if isinstance(document, dict) else {}


def _most(equal: Sequence[QueuedJob], key: str) -> float | None:
    values = [(job.progress or {}).get(key) for job in equal]
    return max((value for value in values if value is not None), default=None)
