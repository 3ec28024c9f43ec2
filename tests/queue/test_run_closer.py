"""Runs that were left RUNNING, on a server that answers like MLflow's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from adjobs.errors import TrackingError
from adjobs.queue.run_closer import GRACE_SECONDS, RunCloser
from adjobs.queue.states import JobState
from tests.helpers.queue import Setup

ENVIRONMENT = {"MLFLOW_TRACKING_USERNAME": "adjobs", "MLFLOW_TRACKING_PASSWORD": "secret"}


class Mlflow:
    """Runs by id: their status, tags and end."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        mlflow = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                is_known = self.headers["Authorization"] == "Basic YWRqb2JzOnNlY3JldA=="
                self.send_response(200 if is_known else 401)
                self.end_headers()
                self.wfile.write(json.dumps(mlflow.answer(self.path.removeprefix("/api/2.0/mlflow/"), body)).encode())

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, run_id: str, ray_job: str) -> None:
        self.runs[run_id] = {"status": "RUNNING", "adjobs.ray_job": ray_job}

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "experiments/search":
            page = int(body.get("page_token", 0))
            return {"experiments": [{"experiment_id": str(page)}], **({"next_page_token": "1"} if page == 0 else {})}
        if path == "runs/search":
            assert body["experiment_ids"] == ["0", "1"]
            running = {name: run for name, run in self.runs.items() if run["status"] == "RUNNING"}
            return {
                "runs": [
                    {"info": {"run_id": name}, "data": {"tags": [{"key": key, "value": value} for key, value in run.items()]}}
                    for name, run in running.items()
                ]
            }
        run = self.runs[body["run_id"]]
        run.update({body["key"]: body["value"]} if path == "runs/set-tag" else {"status": body["status"]})
        return {}


@pytest.fixture
def mlflow() -> Iterator[Mlflow]:
    mlflow = Mlflow()
    yield mlflow
    mlflow.server.shutdown()
    mlflow.server.server_close()


@pytest.fixture
def setup(tmp_path) -> Setup:
    return Setup(tmp_path, slots=9)


def closer(setup: Setup, mlflow: Mlflow, environment: dict[str, str] = ENVIRONMENT) -> RunCloser:
    return RunCloser(mlflow.url, setup.store, environment, lambda: setup.now)


def end(setup: Setup, name: str, state: JobState) -> str:
    job = setup.submit(name)
    claimed = setup.store.claim("one", 9, 60)
    assert claimed is not None
    setup.store.move(claimed, state, "node lost")
    return job


def test_step_runs_of_ended_jobs_are_ended_with_the_reason_and_all_others_left_alone(setup, mlflow):
    ended = {state: end(setup, state, state) for state in (JobState.FAILED, JobState.STOPPED, JobState.DONE)}
    for state, job in ended.items():
        mlflow.add(state, f"{job}-1")
    mlflow.add("live", f"{setup.submit('live')}-1")
    mlflow.add("of another queue", "0123456789ab-1")
    mlflow.add("of nobody", "none")
    mlflow.add("by hand", "raysubmit-1")
    assert closer(setup, mlflow).step() == 0  # their drivers may be about to
    setup.now += GRACE_SECONDS + 1
    assert closer(setup, mlflow).step() == 3
    statuses = {name: run["status"] for name, run in mlflow.runs.items()}
    assert statuses == {
        "failed": "FAILED",
        "stopped": "KILLED",
        "done": "KILLED",
        **dict.fromkeys(("live", "of another queue", "of nobody", "by hand"), "RUNNING"),
    }
    assert mlflow.runs["failed"]["adjobs.error"] == f"its driver was lost; job {ended[JobState.FAILED]} is failed (node lost)"
    assert closer(setup, mlflow).step() == 0


def test_step_mlflow_that_refuses_or_does_not_answer_is_one_line(setup, mlflow):
    with pytest.raises(TrackingError, match=rf"^MLflow at {mlflow.url}: answers 401 \(.*\)$"):
        closer(setup, mlflow, {"MLFLOW_TRACKING_TOKEN": "wrong"}).step()
    with pytest.raises(TrackingError, match=r"^MLflow at http://127\.0\.0\.1:9: no answer \(.*\)$"):
        RunCloser("http://127.0.0.1:9", setup.store, {}).step()


def test_step_answer_in_another_form_is_one_line(setup, mlflow, monkeypatch):
    monkeypatch.setattr(mlflow, "answer", lambda path, body: {"experiments": [{}]})
    with pytest.raises(TrackingError, match=r"its answer cannot be read \('experiment_id'\)$"):
        RunCloser(mlflow.url, setup.store, ENVIRONMENT).step()


def test_run_without_a_server_returns_at_once(setup):
    RunCloser("sqlite:///mlflow.db", setup.store, {}).run(lambda: False)
