"""Who is let in, and that a wrong token costs the queue no more than a look at the head of its request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from adjobs.queue import tokens
from adjobs.queue.access import TOKEN_SECONDS, Gate
from adjobs.queue.client import MAX_BODY
from adjobs.queue.store import JobStore
from tests.helpers.job_store import Clock
from tests.helpers.queue import RunningQueue


class Door:
    """A gate before an application that answers 200 and keeps whom it has let in."""

    def __init__(self, store: JobStore) -> None:
        self.store, self.clock, self.users = store, Clock(), []  # type: ignore[var-annotated]
        self._gate = Gate(self._app, store, self.clock)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.users.append(scope["state"]["identity"].user if scope.get("state") else None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def request(self, path: str, **headers: str) -> Message:
        """The start of the answer to a request whose body is never sent."""
        sent: list[Message] = []

        async def receive() -> Message:
            raise AssertionError("the body is read")

        async def send(message: Message) -> None:
            sent.append(message)

        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "headers": pairs, "client": ("127.0.0.1", 1)}
        asyncio.run(self._gate(scope, receive, send))
        return sent[0]

    def status(self, path: str, **headers: str) -> int:
        status: int = self.request(path, **headers)["status"]
        return status


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    store = JobStore(f"sqlite:///{tmp_path / 'queue.db'}")
    yield Door(store)
    store.close()


def make_token(store: JobStore, user: str = "ann") -> str:
    with store.transaction() as connection:
        return tokens.create(connection, user, tokens.Role.SUBMITTER, 1.0)


def test_gate_lets_in_whose_token_is_right_and_passes_on_who_it_is(door):
    token = make_token(door.store)
    assert [door.status("/api/jobs", authorization=f"{scheme} {token}") for scheme in ("Bearer", "bearer")] == [200, 200]
    assert door.users == ["ann", "ann"]


@pytest.mark.parametrize("path", ["/api/jobs", "/api/unknown", "/metrics"])
@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer adj_wrong"}, {"authorization": "Basic YTpi"}])
def test_gate_without_a_right_token_refuses_before_the_body_is_read(door, path, header):
    assert door.status(path, content_length=str(MAX_BODY), **header) == 401
    assert door.users == []


def test_gate_pages_without_a_token_are_open(door):
    assert [door.status(path) for path in ("/", "/healthz", "/openapi.json")] == [200] * 3


@pytest.mark.parametrize(
    "headers", [{"content_length": str(MAX_BODY + 1)}, {"content_length": "-1"}, {"transfer_encoding": "chunked"}]
)
def test_gate_body_without_a_bound_is_refused(door, headers: dict[str, Any]):
    assert door.status("/api/jobs", authorization=f"Bearer {make_token(door.store)}", **headers) == 413


def test_gate_answers_have_headers_that_keep_browsers_from_guessing(door):
    for answer in (door.request("/"), door.request("/api/jobs")):
        assert (b"x-content-type-options", b"nosniff") in answer["headers"]


def test_gate_token_that_is_revoked_is_refused_within_seconds(door):
    token = make_token(door.store)
    assert door.status("/api/me", authorization=f"Bearer {token}") == 200
    with door.store.transaction() as connection:
        tokens.revoke(connection, token[:10])
    door.clock.now += TOKEN_SECONDS
    assert door.status("/api/me", authorization=f"Bearer {token}") == 401


def test_gate_database_that_fails_is_503_with_a_time_to_retry(door):
    token = make_token(door.store)
    with door.store.transaction() as connection:
        connection.exec_driver_sql("drop table adjobs_tokens")
    answer = door.request("/api/me", authorization=f"Bearer {token}")
    assert answer["status"] == 503
    assert (b"retry-after", b"5") in answer["headers"]


def test_wrong_token_with_a_large_body_is_answered_before_it_is_sent(tmp_path):
    with RunningQueue(tmp_path) as queue, socket.create_connection(("127.0.0.1", int(queue.url.rsplit(":", 1)[1])), 10) as client:
        client.sendall(f"POST /api/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY}\r\n\r\n".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 401")
