"""The queue's HTTP interface: what jobs that are submitted now would meet. Nothing is submitted."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from adjobs import methods
from adjobs.config import resolve
from adjobs.config.job import JobConfig
from adjobs.data.open import INSTALLED
from adjobs.errors import AdjobsError, ClusterError, StorageError
from adjobs.jobs.prepare import path_values
from adjobs.queue.access import Submitter
from adjobs.queue.admission import Admission
from adjobs.queue.answers import CHANGE, describe
from adjobs.queue.dispatcher import Limits
from adjobs.queue.estimates import Estimates
from adjobs.queue.folder import JobSpec
from adjobs.queue.ray_jobs import Cluster
from adjobs.queue.schemas import JobRequest, PreflightRequest, PreflightResponse
from adjobs.queue.store import JobStore
from adjobs.version import __version__


def add_preflight(
    app: FastAPI,
    store: JobStore,
    cluster: Cluster,
    admission: Admission,
    limits: Limits,
    clock: Callable[[], float] = time.time,
) -> None:
    """Add the endpoint that checks jobs before they are submitted."""

    @app.post("/api/preflight", responses=describe(PreflightResponse, *CHANGE))
    def preflight(request: PreflightRequest, identity: Submitter) -> JSONResponse:
        """What speaks against these jobs, what they will take, and when the first may start."""
        estimates, priority = Estimates(store, clock()), request.jobs[0].priority
        starts_in_s = None if request.jobs[0].after else estimates.seconds_to_start(limits, identity.user, priority)
        return JSONResponse(
            {
                "version": __version__,
                **_versions(cluster),
                "position": store.next_position(priority),
                "starts_in_s": starts_in_s,
                "jobs": [_checked(job, admission, estimates) for job in request.jobs],
            }
        )


def _versions(cluster: Cluster) -> dict[str, str | None]:
    """Those of the cluster; of Python that of the queue, which has the cluster's environment, if the head does not answer."""
    try:
        versions = cluster.versions()
    except ClusterError:
        return {"python": platform.python_version(), "ray": None}
    return {"python": versions.python or platform.python_version(), "ray": versions.ray}


def _checked(request: JobRequest, admission: Admission, estimates: Estimates) -> dict[str, Any]:
    spec = request.to_spec()
    missing, problem = list(missing_paths(spec)), None
    if not missing:
        try:
            admission.admit(spec)
        except StorageError:
            raise
        except AdjobsError as error:
            problem = str(error)
    estimate = estimates.of(spec.to_dict())
    return {"problem": problem, "missing": missing, "estimate": None if estimate is None else estimate._asdict()}


def missing_paths(spec: JobSpec) -> Iterator[str]:
    """Absolute paths that a job names and that this machine does not have."""
    if spec.verb == "retrain":
        yield from _missing_of_retraining(spec)
        return
    try:
        job = JobConfig.model_validate(dict(spec.document))
        if job.method in methods.names():
            job = resolve.resolve(spec.document)
    except (AdjobsError, ValueError):
        return  # which the admission says
    if "://" not in job.data.uri and job.data.uri != INSTALLED and not Path(job.data.uri).exists():
        yield job.data.uri
    for path in path_values(job).values() if job.method in methods.names() else ():
        if Path(path).is_absolute() and not Path(path).exists():
            yield path
    if job.data.split is not None and Path(job.data.split).is_absolute() and not Path(job.data.split).exists():
        yield job.data.split


def _missing_of_retraining(spec: JobSpec) -> Iterator[str]:
    for uri in (spec.document.get("dataset"), spec.document.get("inbox")):
        if isinstance(uri, str) and "://" not in uri and not Path(uri).exists():
            yield uri
