"""Ray's interface for jobs over HTTP: each call ends within seconds, which those of Ray's own client do not."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from adjobs.errors import ClusterError, RefusedError, one_line
from adjobs.http import make_opener
from adjobs.queue.archives import Archives

SECONDS = 10.0
MAX_ANSWER = 32 * 2**20
"""Bytes of an answer that the process of the queue takes into its memory."""

ARCHIVE_SECONDS = 60.0
"""In which Ray must have taken a working directory."""

OWN_ID = re.compile(r"[0-9a-f]{12}-\d+")
"""Under which Ray knows an attempt of a job of the queue."""


class RayStatus(StrEnum):
    """Ray's states of a job."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    @property
    def has_ended(self) -> bool:
        """Whether it stays so."""
        return self in (RayStatus.SUCCEEDED, RayStatus.FAILED, RayStatus.STOPPED)


class RayJob(NamedTuple):
    """What Ray says of a job: its state, in words why, and the exit status of its driver."""

    status: RayStatus
    message: str
    exit_code: int | None


class ForeignJob(NamedTuple):
    """A job of Ray that the queue did not submit: its id, what it runs, and its times in seconds since the epoch."""

    id: str
    status: RayStatus
    entrypoint: str
    message: str
    started_at: float | None
    ended_at: float | None


class Versions(NamedTuple):
    """Those of Python and Ray; None: the head does not say."""

    python: str | None
    ray: str | None


class Cluster(Protocol):
    """What a dispatcher needs of Ray. Every method raises ClusterError when the head does not answer."""

    def submit(self, submission_id: str, entrypoint: str, environment: Mapping[str, str], working_dir: str | None = None) -> None:
        """Start a driver; once only, however often it is called. Raises RefusedError when the head answers, but refuses."""

    def job(self, submission_id: str) -> RayJob | None:
        """What Ray says of a job; None if a head that answers does not know it."""

    def stop(self, submission_id: str) -> None:
        """Ask a driver to end."""

    def logs(self, submission_id: str) -> str:
        """What a driver has printed."""

    def nodes(self) -> list[dict[str, float]]:
        """The resources of each living node."""

    def versions(self) -> Versions:
        """The versions with which the head was started."""

    def foreign_jobs(self) -> list[ForeignJob]:
        """The jobs that others have submitted, the latest first."""


class RayJobs:
    """The jobs of a Ray head."""

    def __init__(
        self, address: str, token: str | None = None, seconds: float = SECONDS, archives: Archives | None = None
    ) -> None:
        """Without connecting.

        Args:
            address: of the dashboard, ``http://host:port``.
            token: of Ray's token authentication.
            seconds: after which a call fails.
            archives: the working directories of jobs; None: no job has one.
        """
        self._address, self._seconds, self._archives = address.rstrip("/"), seconds, archives
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._opener = make_opener(address, use_proxy=False)  # proxies are for other networks

    def submit(self, submission_id: str, entrypoint: str, environment: Mapping[str, str], working_dir: str | None = None) -> None:
        """Start a driver; one that was started before under this id is left as it is.

        Args:
            submission_id: under which Ray knows it.
            entrypoint: its command.
            environment: its variables.
            working_dir: SHA-256 of the uploaded archive that it and its workers find in their current folder.
        """
        runtime: dict[str, Any] = {"env_vars": dict(environment)}
        if working_dir is not None:
            runtime["working_dir"] = self._provide(working_dir)
        body = {"entrypoint": entrypoint, "submission_id": submission_id, "runtime_env": runtime, "entrypoint_num_cpus": 0}
        status, text = self._call("POST", "/api/jobs/", body)
        # Ray reports an id that exists with a traceback, as an error of the server.
        if status != 200 and "already exists" not in text:
            raise RefusedError(f"Ray at {self._address}: refused job {submission_id} ({status}: {_last_line(text)})")

    def _provide(self, digest: str) -> str:
        """Give the head an archive, unless it has it; one that is replaced has lost it. Returns its address in Ray."""
        name = f"_ray_pkg_{digest}.zip"
        path = f"/api/packages/gcs/{name}"
        status, text = self._call("GET", path)  # Ray now keeps it for ten minutes, used or not
        if status == 404:
            if self._archives is None or not self._archives.has(digest):
                problem = f"working directory {digest[:12]}: is not in the artifact store any more"
                raise RefusedError(f"{problem}; submit the job again")
            with self._archives.fetched(digest) as archive:
                status, text = self._call("PUT", path, archive)
        if status != 200:
            cause = f"{status}: {_last_line(text)}"
            raise RefusedError(f"Ray at {self._address}: does not take working directory {digest[:12]} ({cause})")
        return f"gcs://{name}"

    def job(self, submission_id: str) -> RayJob | None:
        """What Ray says of a job; None if it does not know it."""
        status, text = self._call("GET", f"/api/jobs/{urllib.parse.quote(submission_id)}")
        if status == 404:
            return None
        if status != 200:
            cause = f"{status}: {_last_line(text)}"
            raise ClusterError(f"Ray at {self._address}: does not say what job {submission_id} does ({cause})")
        details = json.loads(text)
        return RayJob(RayStatus(details["status"]), str(details.get("message") or ""), details.get("driver_exit_code"))

    def stop(self, submission_id: str) -> None:
        """Ask a driver to end; one that has ended or is unknown is left as it is."""
        status, text = self._call("POST", f"/api/jobs/{urllib.parse.quote(submission_id)}/stop")
        if status not in (200, 404):
            raise ClusterError(f"Ray at {self._address}: does not stop job {submission_id} ({status}: {_last_line(text)})")

    def logs(self, submission_id: str) -> str:
        """What a driver has printed; nothing for one that is unknown."""
        status, text = self._call("GET", f"/api/jobs/{urllib.parse.quote(submission_id)}/logs")
        if status == 404:
            return ""
        if status != 200:
            raise ClusterError(f"Ray at {self._address}: has no log of job {submission_id} ({status}: {_last_line(text)})")
        return str(json.loads(text).get("logs") or "")

    def nodes(self) -> list[dict[str, float]]:
        """The resources of each living node."""
        status, text = self._call("GET", "/api/v0/nodes?detail=1&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE")
        if status != 200:
            raise ClusterError(f"Ray at {self._address}: does not list its nodes ({status}: {_last_line(text)})")
        result = json.loads(text)["data"]["result"]["result"]
        return [dict(node.get("resources_total") or {}) for node in result]

    def versions(self) -> Versions:
        """The versions with which the head was started."""
        status, text = self._call("GET", "/api/v0/cluster_metadata")
        data = json.loads(text).get("data", {}) if status == 200 else {}
        return Versions(data.get("pythonVersion"), data.get("rayVersion"))

    def foreign_jobs(self) -> list[ForeignJob]:
        """The jobs that others have submitted, the latest first; what cannot be read is left out."""
        status, text = self._call("GET", "/api/jobs/")
        if status != 200:
            raise ClusterError(f"Ray at {self._address}: does not list its jobs ({status}: {_last_line(text)})")
        try:
            listed = [_foreign_job(details) for details in json.loads(text)]
        except (ValueError, TypeError, AttributeError) as error:
            raise ClusterError(f"Ray at {self._address}: its list of jobs cannot be read ({one_line(error)})") from error
        foreign = [job for job in listed if job is not None and not OWN_ID.fullmatch(job.id)]
        return sorted(foreign, key=lambda job: job.started_at or 0.0, reverse=True)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | Path | None = None) -> tuple[int, str]:
        headers, seconds = self._headers, self._seconds
        try:
            with contextlib.ExitStack() as stack:
                data: bytes | BinaryIO | None = None
                if isinstance(body, Path):
                    data, seconds = stack.enter_context(body.open("rb")), ARCHIVE_SECONDS
                    headers = {**headers, "Content-Type": "application/zip", "Content-Length": str(body.stat().st_size)}
                elif body is not None:
                    data = json.dumps(body).encode()
                request = urllib.request.Request(self._address + path, data, headers, method=method)
                response = stack.enter_context(self._opener.open(request, timeout=seconds))
                return int(response.status), self._read(response).decode(errors="replace")
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                problem = f"refuses the token ({error.code}); check RAY_AUTH_TOKEN_PATH"
                raise ClusterError(f"Ray at {self._address}: {problem}") from error
            return error.code, self._read(error).decode(errors="replace")
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = (
                f"does not answer ({one_line(error)}); start it again ('adjobs up'), its jobs go on from their last checkpoint"
            )
            raise ClusterError(f"Ray at {self._address}: {problem}") from error

    def _read(self, response: Any) -> bytes:
        """An answer; Ray sends logs as a whole, however long they are."""
        answer = bytes(response.read(MAX_ANSWER + 1))
        if len(answer) > MAX_ANSWER:
            problem = f"its answer is longer than {MAX_ANSWER >> 20} MiB; read a long log with 'ray job logs'"
            raise ClusterError(f"Ray at {self._address}: {problem}")
        return answer


def _foreign_job(details: Mapping[str, Any]) -> ForeignJob | None:
    """A job of Ray's list; None for a driver without submission, such as a notebook's."""
    if not details.get("submission_id") or details.get("status") not in list(RayStatus):
        return None
    started_at, ended_at = (details.get(name) for name in ("start_time", "end_time"))
    return ForeignJob(
        str(details["submission_id"]),
        RayStatus(details["status"]),
        str(details.get("entrypoint") or ""),
        str(details.get("message") or ""),
        started_at / 1000 if started_at else None,
        ended_at / 1000 if ended_at else None,
    )


def _last_line(text: str) -> str:
    """The last line of a traceback, which names the error."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "no reason"
