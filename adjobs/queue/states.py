"""The states of a queued job, and which may follow which."""

from __future__ import annotations

from enum import StrEnum


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
