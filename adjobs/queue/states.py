"""The states of a queued job, and which may follow which."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class JobState(StrEnum):
    """What a queued job is doing.

    ``starting`` and ``running`` hold a slot: a job is starting from the moment that a dispatcher has claimed it, before Ray
    knows of it.
    """

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


HOLDING_SLOT = (JobState.STARTING, JobState.RUNNING)
LIVE = (JobState.QUEUED, *HOLDING_SLOT)
ENDED = (JobState.DONE, JobState.FAILED, JobState.STOPPED)

NEXT: dict[JobState, tuple[JobState, ...]] = {
    JobState.QUEUED: (JobState.STARTING, JobState.FAILED, JobState.STOPPED),
    # Back to queued: Ray refused it for now, or it is tried once more after an attempt was lost.
    JobState.STARTING: (JobState.QUEUED, JobState.RUNNING, JobState.DONE, JobState.FAILED, JobState.STOPPED),
    JobState.RUNNING: (JobState.QUEUED, JobState.DONE, JobState.FAILED, JobState.STOPPED),
    JobState.DONE: (),
    JobState.FAILED: (JobState.QUEUED,),  # resumed by a user
    JobState.STOPPED: (JobState.QUEUED,),
}
"""Allowed changes of state."""


class ExitStatus(IntEnum):
    """How the process of a driver ends, for the case that it cannot store how its attempt did."""

    DONE = 0
    FAILED = 2  # as another attempt would
    SUPERSEDED = 3
    LOST = 75  # another attempt may succeed; sysexits.h calls it EX_TEMPFAIL
    INTERRUPTED = 130  # SIGINT
    TERMINATED = 143  # SIGTERM
