"""What the queue keeps of a job, as frozen types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from adjobs.queue.states import JobState

_HIDDEN = frozenset({"seq", "key", "owner", "lease_until", "spec", "verb", "method", "data"})

MAX_ATTEMPTS = 3
"""Starts of a job, when attempts are lost; a user who resumes it gives it as many more."""


@dataclass(frozen=True)
class NewJob:
    """What a user submits.

    Attributes:
        key: equal for equal jobs, of which only one lives at a time.
        spec: what is run, as JSON.
        user: who submits it.
        name: for people.
        priority: from -1000 to 1000; higher first.
        after: ids of jobs that must be done before, or the first digits of them.
        max_attempts: starts in all, when attempts are lost with a process or a node.
    """

    key: str
    spec: Mapping[str, Any]
    user: str
    name: str
    priority: int = 0
    after: tuple[str, ...] = ()
    max_attempts: int = MAX_ATTEMPTS


@dataclass(frozen=True)
class QueuedJob:
    """A job of the queue.

    Attributes:
        seq: order of submission.
        id: 12 hexadecimal digits.
        key: see :class:`NewJob`; so are ``spec``, ``user``, ``name``, ``priority`` and ``max_attempts``.
        verb: of its spec, like ``method`` and ``data``, the address of its data; None where the spec has none.
        state: what it is doing.
        attempt: how often it was claimed; 0 before the first time.
        stop_requested: whether a user wants it to end.
        owner: the dispatcher that has claimed it, "" for none.
        lease_until: time after which another dispatcher may adopt it, in seconds since the epoch.
        created_at: in seconds since the epoch, like ``started_at`` (of the last attempt) and ``ended_at``.
        reason: why it is in this state, or why it waits.
        run_id: its MLflow run.
        progress: what its driver said last.
    """

    seq: int
    id: str
    key: str
    state: JobState
    priority: int
    user: str
    name: str
    spec: dict[str, Any]
    verb: str | None
    method: str | None
    data: str | None
    attempt: int
    max_attempts: int
    stop_requested: bool
    owner: str
    lease_until: float
    created_at: float
    started_at: float | None
    ended_at: float | None
    reason: str
    run_id: str | None
    progress: dict[str, Any] | None

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> Self:
        """From a row of the table."""
        job = object.__new__(cls)
        # At once: a list has thousands of rows, for which the constructor of a frozen type takes ten times as long.
        vars(job).update(row, state=JobState(row["state"]))
        return job

    @property
    def submission_id(self) -> str:
        """Under which Ray knows this attempt."""
        return f"{self.id}-{self.attempt}"

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object, without what only dispatchers need."""
        return {name: value for name, value in vars(self).items() if name not in _HIDDEN}


@dataclass(frozen=True)
class Change:
    """A row of a job's history: it entered ``state`` at ``time``, for this reason."""

    time: float
    state: JobState
    attempt: int
    reason: str


@dataclass(frozen=True)
class Submission:
    """The answer to a submitted job; ``created`` is False if an equal one lives already, which it then is."""

    id: str
    created: bool
    position: int
