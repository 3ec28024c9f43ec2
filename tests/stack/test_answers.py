"""Which services of a stack answer, and what runs on it, with a small server in place of the services."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adjobs.drivers import current_driver
from adjobs.errors import StorageError
from adjobs.stack import answers
from adjobs.stack.activity import running_jobs
from adjobs.stack.state import ServiceRecord, StackState

LOGIN = base64.b64encode(b"adjobs:secret").decode()


class Service(ThreadingHTTPServer):
    """Answers a path with JSON; keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, Any] = {}
        self.bodies: dict[str, Any] = {}
        self.open: dict[str, str] = {}  # what answers everybody
        self.released = threading.Event()
        self.released.set()


class Handler(BaseHTTPRequestHandler):
    server: Service

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        length = int(self.headers.get("Content-Length") or 0)
        self.server.bodies[path] = json.loads(self.rfile.read(length)) if length else None
        self.server.released.wait(30)
        allowed = {f"Basic {LOGIN}", "Bearer token"}
        content = self.server.content.get(path)
        status = (
            200
            if path in self.server.open
            else 401
            if self.headers.get("Authorization") not in allowed
            else 404
            if content is None
            else 200
        )
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    do_GET = do_POST = answer  # noqa: N815 (of http.server)

    def log_message(self, *arguments: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def home(service: Service, tmp_path: Path) -> Path:
    """With the record of a stack all of whose services are that one."""
    (tmp_path / "token").write_text("token\n")
    environment = {
        "MLFLOW_TRACKING_USERNAME": "adjobs",
        "MLFLOW_TRACKING_PASSWORD": "secret",
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
    }
    record = ServiceRecord(1, service.server_port, f"http://127.0.0.1:{service.server_port}", "log")
    StackState("id", 20000, environment, dict.fromkeys(("s3", "mlflow", "ray", "queue"), record)).write(tmp_path)
    return tmp_path


def read(home: Path) -> StackState:
    state = StackState.read(home)
    assert state is not None
    return state


def test_answering_names_those_that_give_clients_what_they_are_for(
    home: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket: list[Callable[[str], bool]] = []
    monkeypatch.setattr(answers, "open_store", lambda uri, environment: SimpleNamespace(exists=bucket[0]))

    def refuse(key: str) -> bool:
        raise StorageError("its inner sockets are gone")

    bucket.append(lambda key: False)
    service.content["/api/2.0/mlflow/experiments/search"] = {}
    service.content["/api/v0/nodes"] = {"data": {"result": {"result": [{"node_id": "1"}]}}}
    service.open["/healthz"] = ""
    services = ("s3", "mlflow", "ray", "queue")
    assert answers.answering(read(home), services, seconds=30) == set(services)

    bucket[0] = refuse
    service.content["/api/v0/nodes"]["data"]["result"]["result"] = []
    assert answers.answering(read(home), services, seconds=30) == {"mlflow", "queue"}
    assert answers.answering(read(home), ("mlflow",)) == {"mlflow"}

    monkeypatch.setattr(service, "content", {})
    (home / "token").unlink()
    assert answers.answering(read(home), services, seconds=30) == {"queue"}


def test_answering_waits_no_longer_than_it_may(home: Path, service: Service) -> None:
    service.open["/healthz"] = ""
    service.released.clear()
    assert answers.answering(read(home), ("queue",), seconds=0.2) == set()


def test_running_jobs_are_jobs_of_ray_and_open_runs_of_living_drivers(home: Path, service: Service) -> None:
    def run(name: str, driver: str) -> dict[str, Any]:
        tags = [{"key": "adjobs.driver", "value": driver}]
        return {"info": {"run_id": f"id-{name}", "run_name": name}, "data": {"tags": tags}}

    host, pid, created = current_driver().split(":")
    api = "/api/2.0/mlflow"
    service.content = {
        "/api/jobs/": [
            {"submission_id": "a-1", "status": "RUNNING", "entrypoint": "adjobs train job.yaml", "driver_info": None},
            {"job_id": "02000000", "status": "RUNNING", "entrypoint": "adjobs tune", "driver_info": {"pid": pid}},
            {"submission_id": "b-1", "status": "SUCCEEDED", "entrypoint": "adjobs train", "driver_info": None},
        ],
        f"{api}/experiments/search": {"experiments": [{"experiment_id": "7"}]},
        f"{api}/runs/search": {
            "runs": [
                run("trial", current_driver()),
                run("search", current_driver()),
                run("killed", f"{host}:{pid}:{int(created) - 5}"),
                run("elsewhere", f"other-host:{pid}:{created}"),
                {"info": {"run_id": "id-foreign"}, "data": {}},
            ]
        },
    }
    assert running_jobs(home) == ["adjobs train job.yaml", "run id-search (search)"]
    assert service.bodies[f"{api}/runs/search"]["filter"] == "attributes.status = 'RUNNING'"
    assert service.bodies[f"{api}/runs/search"]["experiment_ids"] == ["7"]


def test_running_jobs_without_an_answer_or_a_stack_are_none(home: Path, service: Service, tmp_path: Path) -> None:
    service.content = {"/api/jobs/": {"error": "of another program"}, "/api/2.0/mlflow/experiments/search": []}
    assert running_jobs(home) == []
    (home / "token").unlink()
    assert running_jobs(home) == []
    assert running_jobs(tmp_path / "without") == []
