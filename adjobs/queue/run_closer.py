"""Ends the MLflow runs of jobs that have ended: a driver that was killed leaves its runs RUNNING.

They are found by the tag that names the Ray job of their driver, which is a job of the queue and its attempt. Nothing needs to be
remembered: what cannot be done now, because MLflow is down or the dispatcher is killed, is done later.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from adjobs.errors import AdjobsError, QueueDatabaseError, QueueError, TrackingError, one_line, shorten
from adjobs.http import make_opener
from adjobs.queue.ray_jobs import OWN_ID
from adjobs.queue.records import QueuedJob
from adjobs.queue.states import ENDED, JobState
from adjobs.queue.store import JobStore
from adjobs.tracking.layout import TAG
from adjobs.types import JobStatus

INTERVAL_SECONDS = 30.0
GRACE_SECONDS = 30.0
"""For a driver that still lives, to end its run itself."""
TIMEOUT_SECONDS = 20.0
MAX_ERROR_LENGTH = 500

_API = "/api/2.0/mlflow"
_FILTER = f"attributes.status = 'RUNNING' and tags.`{TAG}ray_job` like '%-%'"

log = logging.getLogger(__name__)


class RunCloser:
    """Ends runs over MLflow's HTTP interface, for which its client, of a few hundred megabytes, is not needed."""

    def __init__(
        self, tracking_uri: str, store: JobStore, environment: Mapping[str, str], clock: Callable[[], float] = time.time
    ) -> None:
        """Without connecting.

        Args:
            tracking_uri: of MLflow's server; runs in a file, which no other machine sees, are left alone.
            store: the record of the jobs.
            environment: holds ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``, or ``MLFLOW_TRACKING_TOKEN``, if
                MLflow asks for them.
            clock: the time, in seconds since the epoch.
        """
        self._uri, self._store, self._clock = tracking_uri.rstrip("/"), store, clock
        self._headers = {"Content-Type": "application/json", **_authorization(environment)}
        self._opener = make_opener(tracking_uri)

    def run(self, should_stop: Callable[[], bool]) -> None:
        """End runs until ``should_stop``; an error is logged when it is not that of the last time."""
        last = ""
        while self._uri.startswith("http") and not should_stop():
            try:
                self.step()
                problem = ""
            except AdjobsError as error:
                problem = str(error)
            if problem not in ("", last):
                log.warning("runs of jobs that have ended may stay RUNNING for now: %s", problem)
            last = problem
            time.sleep(INTERVAL_SECONDS)

    def step(self) -> int:
        """End all runs whose job has ended; returns their number.

        Raises:
            TrackingError: MLflow does not answer, or refuses.
            QueueDatabaseError: the database fails.
        """
        count = 0
        try:
            running = list(self._running())
        except (LookupError, TypeError, AttributeError) as error:
            raise TrackingError(f"MLflow at {self._uri}: its answer cannot be read ({one_line(error)})") from error
        for run_id, name in running:
            job = self._find(name.partition("-")[0])
            if job is not None and job.state in ENDED and (job.ended_at or 0.0) < self._clock() - GRACE_SECONDS:
                self._close(run_id, job)
                count += 1
        return count

    def _find(self, identifier: str) -> QueuedJob | None:
        try:
            return self._store.get(identifier)
        except QueueDatabaseError:
            raise
        except QueueError:  # of another queue with the same MLflow, or forgotten
            return None

    def _running(self) -> Iterator[tuple[str, str]]:
        """Id, and Ray job, of each run that an attempt of a queued job has opened and not ended."""
        experiments = [experiment["experiment_id"] for experiment in self._pages("experiments", {})]
        if not experiments:
            return
        for run in self._pages("runs", {"experiment_ids": experiments, "filter": _FILTER}):
            tags = {tag["key"]: tag["value"] for tag in run.get("data", {}).get("tags", [])}
            name = tags.get(f"{TAG}ray_job", "")
            if OWN_ID.fullmatch(name):
                yield run["info"]["run_id"], name

    def _close(self, run_id: str, job: QueuedJob) -> None:
        status = JobStatus.FAILED if job.state is JobState.FAILED else JobStatus.KILLED
        reason = shorten(f"its driver was lost; job {job.id} is {job.state} ({job.reason})", MAX_ERROR_LENGTH)
        self._call("runs/set-tag", {"run_id": run_id, "key": f"{TAG}error", "value": reason})
        self._call("runs/update", {"run_id": run_id, "status": status, "end_time": round(self._clock() * 1000)})
        log.info("run %s is %s: %s", run_id, status, reason)

    def _pages(self, kind: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        token: str | None = None
        while True:
            answer = self._call(f"{kind}/search", {**query, "max_results": 1000, **({"page_token": token} if token else {})})
            yield from answer.get(kind, [])
            token = answer.get("next_page_token")
            if not token:
                return

    def _call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(f"{self._uri}{_API}/{path}", json.dumps(body).encode(), self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            text = shorten(error.read(10_000).decode(errors="replace")) or error.reason
            raise TrackingError(f"MLflow at {self._uri}: answers {error.code} ({text})") from error
        except (OSError, http.client.HTTPException, ValueError, TypeError) as error:
            raise TrackingError(f"MLflow at {self._uri}: no answer ({one_line(error)})") from error


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    """The header that MLflow's own client would send."""
    if user := environment.get("MLFLOW_TRACKING_USERNAME"):
        secret = f"{user}:{environment.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}
