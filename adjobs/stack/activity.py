"""What would be interrupted if the stack were stopped now: jobs of its Ray, and trainings that record in its MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adjobs.drivers import living_driver
from adjobs.errors import printable, shorten
from adjobs.stack.answers import bearer, fetch, mlflow_login, ray_token
from adjobs.stack.state import StackState

_MAX_RESULTS = 1000
_RUNNING = ("PENDING", "RUNNING")  # of Ray's states of a job


def running_jobs(home: Path) -> list[str]:
    """In words, what runs on the stack of a home or records in it; empty if the stack is not running.

    Ray and MLflow are asked. One that does not answer has nothing more to interrupt.

    Args:
        home: folder of the user.

    Raises:
        StackError: the record of the stack cannot be read.
    """
    state = StackState.read(home)
    if state is None:
        return []
    # By process id, so that a training on Ray that records in MLflow is one. Of the runs of a process the first one counts,
    # which is the search of all its trials; it comes last.
    jobs = {**dict(_ray_jobs(state)), **dict(_mlflow_runs(state))}
    return [printable(shorten(job, 100)) for job in jobs.values()]


def _ray_jobs(state: StackState) -> Iterator[tuple[object, str]]:
    """Submitted jobs, and programs that are connected."""
    try:
        headers = bearer(ray_token(state.environment))
    except OSError:
        return
    for job in _objects(fetch(f"{state.services['ray'].url}/api/jobs/", headers)):
        if job.get("status") in _RUNNING:
            pid = (job.get("driver_info") or {}).get("pid")
            name = job.get("submission_id") or job.get("job_id")
            yield int(pid) if pid else name, job.get("entrypoint") or f"job {name} of Ray"


def _mlflow_runs(state: StackState) -> Iterator[tuple[object, str]]:
    """Open runs whose driver is a process of this machine, the latest first."""
    api, headers = f"{state.services['mlflow'].url}/api/2.0/mlflow", mlflow_login(state.environment)
    listed = _objects(fetch(f"{api}/experiments/search?max_results={_MAX_RESULTS}", headers), "experiments")
    query = {
        "experiment_ids": [experiment["experiment_id"] for experiment in listed],
        "filter": "attributes.status = 'RUNNING'",
        "max_results": _MAX_RESULTS,
    }
    for run in _objects(fetch(f"{api}/runs/search", headers, query), "runs"):
        tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
        pid = living_driver(tags.get("adjobs.driver", ""))
        if pid is not None:
            yield pid, f"run {run['info']['run_id']} ({run['info'].get('run_name', '')})"


def _objects(answer: bytes | None, key: str | None = None) -> list[dict[str, Any]]:
    """The objects of a list in JSON, or of the one that lies under a key; none if there was no answer."""
    try:
        content = json.loads(answer or b"[]")
        return [dict(one) for one in (content if key is None else dict(content).get(key, []))]
    except (ValueError, TypeError):  # of another program that has the port now
        return []
