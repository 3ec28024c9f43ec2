"""The queue from a laptop: a few HTTP calls, without any heavy import."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from adjobs.config.settings import Settings
from adjobs.errors import QueueError, QueueUnavailableError, one_line, shown
from adjobs.http import make_opener

MAX_BODY = 4 * 2**20
"""Bytes of a request; the queue refuses more."""

MAX_WAIT_SECONDS = 10.0
"""Between two tries of a request that the queue refuses for now."""

UPLOAD_SECONDS = 600.0
"""In which the queue must have stored an archive that it has received."""

SECONDS = 60.0  # the files of a large data set are listed before a job is queued


_SCHEDULES = "/api/schedules"
_REPEATABLE = ("/api/jobs", "/api/preflight")  # a job that is submitted twice is one


class QueueClient:
    """A queue's HTTP interface. Every method raises QueueError when it refuses or does not answer."""

    def __init__(self, url: str, token: str, seconds: float = SECONDS) -> None:
        """Without connecting.

        Args:
            url: address of the queue.
            token: bearer token of the user.
            seconds: after which a call fails.
        """
        self.url, self._token, self._seconds = url.rstrip("/"), token, seconds
        self._opener = make_opener(url)

    @classmethod
    def from_settings(cls, settings: Settings) -> QueueClient:
        """The queue that the settings name.

        Raises:
            QueueError: they name none, or its token cannot be read.
        """
        if settings.queue.url is None:
            raise QueueError("no queue is known here; start one with 'adjobs up', or set ADJOBS_QUEUE_URL to the address of one")
        path = settings.queue.token_path
        if path is None:
            raise QueueError(f"no token for the queue at {settings.queue.url}; set ADJOBS_QUEUE_TOKEN_PATH to its file")
        try:
            token = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise QueueError(f"{path}: cannot be read ({one_line(error)}); correct ADJOBS_QUEUE_TOKEN_PATH") from error
        return cls(settings.queue.url, token)

    def preflight(self, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What jobs would meet that are submitted now: problems, versions, estimates, place; nothing is submitted."""
        return self._call("POST", "/api/preflight", {"jobs": list(jobs)})

    def submit(self, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Queue jobs, all or none; returns for each its id, whether it is new, and its place."""
        return list(self._call("POST", "/api/jobs", {"jobs": list(jobs)})["jobs"])

    def upload(self, digest: str, archive: Path) -> bool:
        """Store the archive of a working directory; returns False if it is there already.

        Args:
            digest: its SHA-256.
            archive: its file.
        """
        path = f"/api/uploads?sha256={digest}"
        if self._call("GET", path)["exists"]:  # refuses whom the queue does not let in, before anything is sent
            return False
        self._call("PUT", path, archive)
        return True

    def select(self, states: Sequence[str] = (), user: str | None = None, limit: int = 1000) -> list[dict[str, Any]]:
        """Jobs, the latest first."""
        query = [*(("state", state) for state in states), *((("user", user),) if user else ()), ("limit", str(limit))]
        return list(self._call("GET", f"/api/jobs?{urllib.parse.urlencode(query)}")["jobs"])

    def select_foreign(self) -> tuple[list[dict[str, Any]], str | None]:
        """Jobs of Ray that the queue did not submit, the latest first; and why they are missing."""
        answer = self._call("GET", "/api/foreign-jobs")
        return list(answer["jobs"]), answer["note"]

    def get(self, job: str) -> dict[str, Any]:
        """One job with its history and what it waits for."""
        return self._call("GET", _path(job))

    def logs(self, job: str) -> dict[str, Any]:
        """The end of its log, the length of the whole, and its state."""
        return self._call("GET", f"{_path(job)}/logs")

    def stop(self, job: str) -> dict[str, Any]:
        """End a job."""
        return self._call("POST", f"{_path(job)}/stop")

    def resume(self, job: str) -> dict[str, Any]:
        """Queue a failed or stopped job again."""
        return self._call("POST", f"{_path(job)}/resume")

    def set_priority(self, job: str, priority: int) -> dict[str, Any]:
        """Move a queued job."""
        return self._call("POST", f"{_path(job)}/priority", {"priority": priority})

    def prune(self, days: float) -> int:
        """Forget jobs that ended so many days ago; returns how many."""
        return int(self._call("POST", "/api/prune", {"days": days})["deleted"])

    def schedules(self) -> list[dict[str, Any]]:
        """All schedules by name."""
        return list(self._call("GET", _SCHEDULES)["schedules"])

    def save_schedule(self, schedule: Mapping[str, Any]) -> dict[str, Any]:
        """Add a schedule (``name``, ``cron``, ``time_zone``, ``document``), or replace the one with its name."""
        return self._call("POST", _SCHEDULES, schedule)

    def pause_schedule(self, name: str) -> dict[str, Any]:
        """Submit nothing until it is resumed."""
        return self._call("POST", f"{_schedule_path(name)}/pause")

    def resume_schedule(self, name: str) -> dict[str, Any]:
        """Go on with its next time."""
        return self._call("POST", f"{_schedule_path(name)}/resume")

    def run_schedule(self, name: str) -> dict[str, Any]:
        """Submit its job now; returns its id, whether it is new, and its place."""
        return self._call("POST", f"{_schedule_path(name)}/run")

    def remove_schedule(self, name: str) -> dict[str, Any]:
        """Delete a schedule; its jobs stay."""
        return self._call("DELETE", _schedule_path(name))

    def _call(self, method: str, path: str, body: Mapping[str, Any] | Path | None = None) -> dict[str, Any]:
        is_repeatable = method in ("GET", "PUT") or path in _REPEATABLE
        for wait in (1.0, 2.0, None):
            try:
                return self._send(method, path, body)
            except urllib.error.HTTPError as error:
                if wait is None or error.code != HTTPStatus.TOO_MANY_REQUESTS:
                    is_refused = error.code < HTTPStatus.INTERNAL_SERVER_ERROR
                    raise (QueueError if is_refused else QueueUnavailableError)(_reason(error)) from error
                time.sleep(min(_retry_after(error), MAX_WAIT_SECONDS))
            except (OSError, http.client.HTTPException, ValueError) as error:
                if wait is None or not is_repeatable or not _is_lost(error):
                    action = "start it with 'adjobs up', or correct ADJOBS_QUEUE_URL"
                    raise QueueUnavailableError(
                        f"the queue at {self.url} does not answer ({one_line(error)}); {action}"
                    ) from error
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _send(self, method: str, path: str, body: Mapping[str, Any] | Path | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        with contextlib.ExitStack() as stack:
            data: bytes | BinaryIO | None = b"" if method == "POST" else None
            seconds = self._seconds
            if isinstance(body, Path):
                data, seconds = stack.enter_context(body.open("rb")), UPLOAD_SECONDS
                headers |= {"Content-Type": "application/zip", "Content-Length": str(body.stat().st_size)}
            elif body is not None:
                data = json.dumps(body, allow_nan=False).encode()
                if len(data) > MAX_BODY:
                    raise QueueError(f"the jobs are {len(data)} bytes, a request may have {MAX_BODY}; submit fewer at once")
            request = urllib.request.Request(self.url + path, data, headers, method=method)
            response = stack.enter_context(self._opener.open(request, timeout=seconds))
            return dict(json.load(response))


def _is_lost(error: Exception) -> bool:
    """Whether a connection broke that had been made."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    lost = http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError | http.client.IncompleteRead
    return isinstance(cause, lost)


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Seconds after which the queue wants to be asked again."""
    text = str(error.headers.get("Retry-After", "1"))
    return float(text) if text.isdigit() else 1.0


def _path(job: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{1,12}", job):
        raise QueueError(
            f"job {job[:100]!r}: no such job; an id has up to 12 digits and letters from a to f, see 'adjobs jobs list'"
        )
    return f"/api/jobs/{job}"


def _schedule_path(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise QueueError(f"schedule {shown(name)}: no such schedule; list them with 'adjobs retrain list'")
    return f"{_SCHEDULES}/{name}"


def _reason(error: urllib.error.HTTPError) -> str:
    """What the queue says, or what its proxy says, in one line."""
    text = error.read(100_000).decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, LookupError, TypeError):
        answer = " ".join(text.split())[:200] or error.reason
        return f"the queue answered {error.code} ({answer}); is ADJOBS_QUEUE_URL its address?"
