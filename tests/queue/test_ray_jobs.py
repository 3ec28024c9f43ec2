from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from adjobs.errors import ClusterError, RefusedError
from adjobs.queue import ray_jobs
from adjobs.queue.archives import Archives
from adjobs.queue.ray_jobs import ForeignJob, RayJobs, RayStatus
from tests.helpers.queue import write_zip

ANSWERS = {
    "POST /api/jobs/": (200, {}),
    "GET /api/jobs/": (
        200,
        [
            {
                "submission_id": "raysubmit_1",
                "status": "FAILED",
                "entrypoint": "python a.py",
                "start_time": 5000,
                "end_time": 9000,
            },
            {
                "submission_id": "1a2b3c4d5e6f-2",
                "status": "RUNNING",
                "entrypoint": "python -m adjobs.cli.driver",
                "start_time": 6000,
            },
            {"submission_id": None, "status": "RUNNING", "entrypoint": "", "type": "DRIVER"},
            {
                "submission_id": "raysubmit_2",
                "status": "PENDING",
                "entrypoint": "python b.py",
                "message": "waits",
                "start_time": 7000,
            },
            {"submission_id": "raysubmit_3", "status": "SLEEPING"},
        ],
    ),
    "GET /api/jobs/good": (200, {"status": "FAILED", "message": "exit code 2", "driver_exit_code": 2}),
    "GET /api/jobs/gone": (404, "job gone does not exist"),
    "GET /api/jobs/ill": (500, "Traceback\n  line\nRuntimeError: GCS is down"),
    "GET /api/jobs/good/logs": (200, {"logs": "two\nlines"}),
    "GET /api/jobs/gone/logs": (404, ""),
    "POST /api/jobs/good/stop": (200, {"stopped": True}),
    "POST /api/jobs/gone/stop": (404, ""),
}


PACKAGES: dict[str, bytes] = {}
SUBMITTED: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    """A head that knows one job, and keeps packages."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers["Authorization"] != "Bearer right":
            status, answer = 401, "unauthorized"
        elif self.path == "/api/jobs/slow":
            time.sleep(3)
            return
        elif self.command == "POST" and self.path == "/api/jobs/" and json.loads(body)["submission_id"] == "twice":
            status, answer = 500, "Traceback\nValueError: Job with submission_id twice already exists."
        elif self.command == "POST" and self.path == "/api/jobs/" and json.loads(body)["submission_id"] == "bad":
            status, answer = 400, "Traceback\nTypeError: no"
        elif self.path.startswith("/api/packages/") and self.command == "PUT":
            PACKAGES[self.path] = body
            status, answer = (413, "Request Entity Too Large") if body == b"large" else (200, {})
        elif self.path.startswith("/api/packages/"):
            status, answer = (200, {}) if self.path in PACKAGES else (404, "does not exist")
        else:
            SUBMITTED.append(json.loads(body or "null"))
            status, answer = ANSWERS[f"{self.command} {self.path}"]
        self.send_response(status)
        self.end_headers()
        self.wfile.write((answer if isinstance(answer, str) else json.dumps(answer)).encode())

    do_GET = _answer  # noqa: N815
    do_POST = _answer  # noqa: N815
    do_PUT = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def jobs(address: str) -> RayJobs:
    return RayJobs(address, "right", seconds=1)


def test_job_status_message_and_exit_status(jobs):
    assert jobs.job("good") == (RayStatus.FAILED, "exit code 2", 2)
    assert jobs.job("gone") is None


def test_submit_an_id_that_exists_is_success(jobs):
    jobs.submit("new", "true", {})
    jobs.submit("twice", "true", {})
    with pytest.raises(ClusterError, match=r"refused job bad \(400: TypeError: no\)"):
        jobs.submit("bad", "true", {})


def test_submit_gives_a_head_the_working_directory_whenever_it_has_lost_it(address, tmp_path):
    path, digest = write_zip(tmp_path / "a.zip", "a.py")
    archives = Archives.open(str(tmp_path))
    jobs = RayJobs(address, "right", archives=archives)
    with pytest.raises(RefusedError, match="is not in the artifact store any more; submit the job again"):
        jobs.submit("new", "true", {}, digest)
    archives.add(digest, path)
    for _ in range(2):
        jobs.submit("new", "true", {"A": "1"}, digest)
        assert SUBMITTED[-1]["runtime_env"] == {"env_vars": {"A": "1"}, "working_dir": f"gcs://_ray_pkg_{digest}.zip"}
        assert {f"/api/packages/gcs/_ray_pkg_{digest}.zip": path.read_bytes()} == PACKAGES
        PACKAGES.clear()


def test_submit_working_directory_that_the_head_refuses_is_one_line(address, tmp_path):
    digest = hashlib.sha256(b"large").hexdigest()
    folder = tmp_path / "queue" / "uploads"
    folder.mkdir(parents=True)
    (folder / f"{digest}.zip").write_bytes(b"large")
    jobs = RayJobs(address, "right", archives=Archives.open(str(tmp_path)))
    with pytest.raises(RefusedError, match=rf"does not take working directory {digest[:12]} \(413: Request Entity Too Large\)"):
        jobs.submit("new", "true", {}, digest)


def test_logs_and_stop_of_unknown_jobs_are_nothing(jobs):
    assert (jobs.logs("good"), jobs.logs("gone")) == ("two\nlines", "")
    jobs.stop("good")
    jobs.stop("gone")


def test_logs_too_long_for_the_memory_of_the_queue_are_one_line(jobs, monkeypatch):
    monkeypatch.setattr(ray_jobs, "MAX_ANSWER", 8)
    with pytest.raises(ClusterError, match=r"its answer is longer than 0 MiB; read a long log with 'ray job logs'$"):
        jobs.logs("good")


def test_job_error_of_the_head_is_not_that_it_is_gone(jobs):
    with pytest.raises(ClusterError, match=r"does not say what job ill does \(500: RuntimeError: GCS is down\)"):
        jobs.job("ill")


def test_job_wrong_token_slow_and_closed_heads_are_one_line(address):
    for head, message in (
        (RayJobs(address, "wrong"), r"refuses the token \(401\); check RAY_AUTH_TOKEN_PATH"),
        (RayJobs("http://127.0.0.1:1"), r"does not answer \(.*\); start it again \('adjobs up'\), its jobs go on"),
    ):
        with pytest.raises(ClusterError, match=message):
            head.job("good")
    started_at = time.monotonic()
    with pytest.raises(ClusterError, match="does not answer"):
        RayJobs(address, "right", seconds=0.2).job("slow")
    assert time.monotonic() - started_at < 2


def test_foreign_jobs_are_those_that_the_queue_did_not_submit(jobs):
    assert jobs.foreign_jobs() == [
        ForeignJob("raysubmit_2", RayStatus.PENDING, "python b.py", "waits", 7.0, None),
        ForeignJob("raysubmit_1", RayStatus.FAILED, "python a.py", "", 5.0, 9.0),
    ]
