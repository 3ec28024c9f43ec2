"""Whatever is sent to the queue, the answer is one that its description has, and a refusal is one line."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from adjobs.errors import QueueError
from adjobs.queue import tokens
from adjobs.queue.archives import Archives
from adjobs.queue.dispatcher import Limits
from adjobs.queue.records import NewJob
from adjobs.queue.schedules import NewSchedule, Schedules
from adjobs.queue.server import make_app
from adjobs.queue.store import JobStore
from tests.helpers.queue import DrawnCluster

ENDPOINTS = [
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/api/me"),
    ("POST", "/api/preflight"),
    ("GET", "/api/jobs"),
    ("POST", "/api/jobs"),
    ("GET", "/api/foreign-jobs"),
    ("GET", "/api/jobs/{job}"),
    ("GET", "/api/jobs/{job}/logs"),
    ("POST", "/api/jobs/{job}/stop"),
    ("POST", "/api/jobs/{job}/resume"),
    ("POST", "/api/jobs/{job}/priority"),
    ("POST", "/api/prune"),
    ("GET", "/api/uploads"),
    ("PUT", "/api/uploads"),
    ("GET", "/api/schedules"),
    ("POST", "/api/schedules"),
    ("POST", "/api/schedules/{name}/pause"),
    ("POST", "/api/schedules/{name}/resume"),
    ("POST", "/api/schedules/{name}/run"),
    ("DELETE", "/api/schedules/{name}"),
]
texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
job_requests = st.fixed_dictionaries(
    {"verb": st.sampled_from(["train", "tune", "retrain"]) | values, "name": st.just("job") | values, "document": values},
    optional=dict.fromkeys(("space", "options", "priority", "after", "key", "other"), values),
)
schedule_requests = st.fixed_dictionaries(dict.fromkeys(("name", "cron", "time_zone"), texts) | {"document": values})
bodies = st.one_of(
    st.binary(max_size=50),
    values.map(json.dumps).map(str.encode),
    st.fixed_dictionaries({"jobs": st.lists(job_requests, max_size=3)}).map(json.dumps).map(str.encode),
    st.fixed_dictionaries(dict.fromkeys(("name", "cron", "time_zone"), texts) | {"document": values})
    .map(json.dumps)
    .map(str.encode),
    st.sampled_from([b"[" * 100_000, b'{"jobs":' * 20_000, b'{"days": 1e400}', b'{"priority": NaN}']),
)
queries = st.dictionaries(
    st.sampled_from(["state", "user", "limit", "characters", "x"]), texts | st.integers().map(str), max_size=3
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = JobStore(f"sqlite:///{tmp_path_factory.mktemp('queue') / 'queue.db'}")
    for name in ("a", "b"):
        store.submit(NewJob(name, {"verb": "train"}, "ann", name))
    with store.transaction() as connection:
        token = tokens.create(connection, "root", tokens.Role.ADMIN, 1.0)
    Schedules(store).save(NewSchedule("nightly", "ann", "0 2 * * *", "UTC", {"model": "m"}))
    app = make_app(store, DrawnCluster(), Limits(2), Archives.open(str(tmp_path_factory.mktemp("artifacts"))))
    yield TestClient(app, headers={"Authorization": f"Bearer {token}"}, raise_server_exceptions=False)
    store.close()


@pytest.mark.slow
@settings(
    max_examples=150,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(ENDPOINTS), st.sampled_from(["0", "a", "1a2b3c4d5e6f", "nope", "%00", "é", "nightly"]), queries, bodies)
def test_api_whatever_is_sent_answers_as_described(client, endpoint, job, query, body):
    method, path = endpoint
    headers = {"Content-Type": "application/json"}
    answer = client.request(
        method, path.format(job=job, name=job), params=query, content=body if method == "POST" else None, headers=headers
    )
    described = client.get("/openapi.json").json()["paths"][path][method.lower()]["responses"]
    assert str(answer.status_code) in described, (answer.status_code, answer.text)
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert "\n" not in error
        assert 0 < len(error) < 2000


def test_openapi_every_answer_is_described(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == set(ENDPOINTS)
    for methods in paths.values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                content: dict[str, Any] = response["content"]
                schema = next(iter(content.values()))["schema"]
                assert status == "200" or schema == {"$ref": "#/components/schemas/ErrorResponse"}


def test_submit_with_a_full_disk_queues_nothing_until_it_has_space(tmp_path: Path):
    store = JobStore(f"sqlite:///{tmp_path / 'queue.db'}")
    limit = {"pages": 30}

    @sa.event.listens_for(store._engine, "begin")
    def bound(connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"pragma max_page_count = {limit['pages']}")

    def submit(name: str) -> None:
        store.submit(NewJob(name, {"text": "x" * 5000}, "ann", name), NewJob(f"{name} too", {"text": "x" * 5000}, "ann", name))

    def fill() -> None:
        for number in range(100):
            submit(f"job {number}")

    with pytest.raises(QueueError, match=r"the queue's database failed .*full.*; check that it runs and has space") as error:
        fill()
    assert "\n" not in str(error.value)
    queued = len(store.select())
    assert queued > 0
    assert queued % 2 == 0  # all of a request, or none
    limit["pages"] = 10_000
    submit("another")
    assert len(store.select()) == queued + 2
    with sqlite3.connect(tmp_path / "queue.db") as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    store.close()
