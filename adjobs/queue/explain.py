"""Why a job is in the state that it is in, in one sentence."""

from __future__ import annotations

from adjobs.errors import ClusterError
from adjobs.queue.dispatcher import Limits
from adjobs.queue.heartbeat import LATE_SECONDS, Heartbeat
from adjobs.queue.ray_jobs import Cluster
from adjobs.queue.records import QueuedJob
from adjobs.queue.states import HOLDING_SLOT, JobState
from adjobs.queue.store import JobStore


def why(job: QueuedJob, store: JobStore, cluster: Cluster, limits: Limits, heartbeat: Heartbeat) -> str:
    """What a job waits for, or what was the last to happen to it."""
    if job.state is not JobState.QUEUED:
        return job.reason or job.state.value
    if waits_for := store.unfinished_predecessors(job.id):
        return f"waits for {', '.join(waits_for)}, which must be done before it"
    holding = store.select(HOLDING_SLOT)
    own = [other.id for other in holding if other.user == job.user]
    if limits.max_per_user is not None and len(own) >= limits.max_per_user:
        return f"{job.user} has {len(own)} jobs running, the limit for one user: {', '.join(own)}"
    try:
        cluster.nodes()
    except ClusterError as error:
        return str(error)
    return _why_waits_in_line(job, store, [other.id for other in holding], limits, heartbeat)


def _why_waits_in_line(job: QueuedJob, store: JobStore, holding: list[str], limits: Limits, heartbeat: Heartbeat) -> str:
    place = store.positions().get(job.id, 1)
    ahead = f"place {place} in the queue" if place > 1 else "the next one"
    if len(holding) >= limits.slots:
        return f"{ahead}; {len(holding)} of {limits.slots} slots are held by {', '.join(holding)}"
    if (seconds := heartbeat.age()) > LATE_SECONDS:
        return f"{ahead}; a slot is free, but the dispatcher has been in one step for {seconds:.0f} s; its log may say why"
    return f"{ahead}; a slot is free; it starts within seconds"
