"""Jobs as the queue's HTTP interface shows them."""

from __future__ import annotations

from typing import Any

from adjobs.errors import printable, shorten
from adjobs.queue.ray_jobs import ForeignJob, RayStatus
from adjobs.queue.records import QueuedJob
from adjobs.queue.states import LIVE, JobState

_FOREIGN_STATES = {
    RayStatus.PENDING: JobState.STARTING,
    RayStatus.RUNNING: JobState.RUNNING,
    RayStatus.SUCCEEDED: JobState.DONE,
    RayStatus.FAILED: JobState.FAILED,
    RayStatus.STOPPED: JobState.STOPPED,
}


def shown(job: QueuedJob, positions: dict[str, int]) -> dict[str, Any]:
    """A job with what it runs and its place, from the places of all queued jobs by id."""
    position = positions.get(job.id, 0) if job.state in LIVE else 0
    summary = {"verb": job.verb, "method": job.method, "data": job.data}
    return {**job.to_dict(), **summary, "position": position, "why": job.reason}


def shown_foreign(job: ForeignJob) -> dict[str, Any]:
    """A job of Ray that the queue did not submit, in the same form."""
    reason = shorten(printable(job.message), 300)
    missing = dict.fromkeys(("run_id", "progress", "method", "data"))
    return {
        "id": job.id,
        "state": _FOREIGN_STATES[job.status],
        "name": shorten(printable(job.entrypoint), 100),
        "user": "-",
        "verb": "ray",
        **missing,
        **dict.fromkeys(("priority", "attempt", "max_attempts", "position"), 0),
        "stop_requested": False,
        "created_at": job.started_at or 0.0,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "reason": reason,
        "why": reason,
        "foreign": True,
    }
