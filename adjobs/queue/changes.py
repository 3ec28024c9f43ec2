"""The queue's HTTP interface: what submits and changes jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse

from adjobs.errors import StorageError, one_line
from adjobs.queue.access import Submitter
from adjobs.queue.admission import Admission
from adjobs.queue.answers import CHANGE, describe
from adjobs.queue.archives import Archives, ensure_uploaded
from adjobs.queue.records import NewJob, QueuedJob
from adjobs.queue.schemas import (
    ChangedJobResponse,
    JobId,
    JobRequest,
    PriorityRequest,
    PruneRequest,
    PruneResponse,
    SubmitRequest,
    SubmitResponse,
)
from adjobs.queue.store import JobStore
from adjobs.queue.tokens import Identity, Role

DELETED_AT_ONCE = 8
"""Folders of pruned jobs; each takes the storage a moment, and there may be thousands."""


def add_changes(
    app: FastAPI,
    store: JobStore,
    admission: Admission,
    archives: Archives,
    clock: Callable[[], float],
    delete_folder: Callable[[str], None],
) -> None:
    """Add the endpoints that write."""

    @app.post("/api/jobs", responses=describe(SubmitResponse, *CHANGE))
    def submit(request: SubmitRequest, identity: Submitter) -> JSONResponse:
        """Queue jobs; equal ones that live are returned as they are."""
        ensure_uploaded(archives, (job.working_dir for job in request.jobs))
        new = [_new_job(job, identity, admission) for job in request.jobs]
        return JSONResponse({"jobs": [asdict(submission) for submission in store.submit(*new)]})

    def own(identifier: str, identity: Identity) -> QueuedJob:
        job = store.get(identifier)
        if identity.role is not Role.ADMIN and job.user != identity.user:
            raise HTTPException(403, f"job {job.id} is {job.user}'s; only they and administrators can change it")
        return job

    @app.post("/api/jobs/{job}/stop", responses=describe(ChangedJobResponse, *CHANGE))
    def stop(job: JobId, identity: Submitter) -> JSONResponse:
        """End a job; one that runs ends within seconds."""
        return JSONResponse(store.request_stop(own(job, identity).id).to_dict())

    @app.post("/api/jobs/{job}/resume", responses=describe(ChangedJobResponse, *CHANGE))
    def resume(job: JobId, identity: Submitter) -> JSONResponse:
        """Queue a failed or stopped job again, to go on from its last checkpoint."""
        return JSONResponse(store.requeue(own(job, identity).id).to_dict())

    @app.post("/api/jobs/{job}/priority", responses=describe(ChangedJobResponse, *CHANGE))
    def set_priority(job: JobId, request: PriorityRequest, identity: Submitter) -> JSONResponse:
        """Move a queued job."""
        return JSONResponse(store.set_priority(own(job, identity).id, request.priority).to_dict())

    @app.post("/api/prune", responses=describe(PruneResponse, *CHANGE))
    def prune(request: PruneRequest, identity: Submitter) -> JSONResponse:
        """Forget jobs that ended long ago, and working directories that no other job names; their runs stay in MLflow."""
        if identity.role is not Role.ADMIN:
            raise HTTPException(403, f"{identity.user} is no administrator; only they can prune the queue")
        pruned = store.prune(clock() - request.days * 86400)
        try:
            _delete_folders(pruned, delete_folder)
        finally:
            archives.prune(store.working_dirs())
        return JSONResponse({"deleted": len(pruned)})


def _delete_folders(jobs: Sequence[str], delete_folder: Callable[[str], None]) -> None:
    """Delete the folders of pruned jobs; if some cannot be deleted, the others are."""
    with ThreadPoolExecutor(DELETED_AT_ONCE) as pool:
        errors = [task.exception() for task in [pool.submit(delete_folder, job) for job in jobs]]
    failed = [(job, error) for job, error in zip(jobs, errors, strict=True) if error is not None]
    if failed:
        job, error = failed[0]
        problem = f"{len(jobs)} jobs are pruned, but {len(failed)} of their folders remain in the artifact store"
        raise StorageError(f"{problem} (queue/{job}: {one_line(error)}); delete them there")


def _new_job(request: JobRequest, identity: Identity, admission: Admission) -> NewJob:
    spec = request.to_spec()
    key = admission.admit(spec)
    if request.key is not None and request.verb != "retrain":  # of this user alone: nobody can take the place of another's job
        key = hashlib.sha256(f"{identity.user} {request.key}".encode()).hexdigest()
    return NewJob(key, spec.to_dict(), identity.user, request.name, request.priority, tuple(request.after))
