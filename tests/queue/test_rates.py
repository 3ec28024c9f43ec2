from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from adjobs.errors import QueueError
from adjobs.queue import access, client
from adjobs.queue.client import QueueClient
from adjobs.web import timed_protocol
from tests.helpers.queue import RunningQueue, write_zip


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningQueue]:
    monkeypatch.setattr(access, "REQUESTS_AT_ONCE", 5)
    monkeypatch.setattr(access, "REQUESTS_PER_SECOND", 1)
    monkeypatch.setattr(access, "FAILURES_AT_ONCE", 3)
    monkeypatch.setattr(timed_protocol, "REQUEST_SECONDS", 0.5)
    with RunningQueue(tmp_path) as queue:
        yield queue


def test_client_over_its_rate_waits_and_tries_again(queue, monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr(client.time, "sleep", lambda seconds: waited.append(seconds) or monkeypatch.undo() or time.sleep(1.1))
    ann = queue.client()
    for _ in range(6):
        ann.select()
    assert waited == [1]


def test_wrong_tokens_of_an_address_are_limited_and_do_not_keep_out_right_ones(queue, monkeypatch):
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    ann = queue.client()
    ann.select()
    guess = QueueClient(queue.url, "adj_guess")
    for _ in range(3):
        with pytest.raises(QueueError, match="unknown or revoked"):
            guess.select()
    with pytest.raises(QueueError, match=r"too many requests without a right token from this address; try again in \d s"):
        guess.select()
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{queue.url}/api/jobs")
    assert (error.value.code, error.value.headers["Retry-After"]) == (429, "2")
    assert ann.select() == []


@pytest.mark.parametrize(
    "start", [b"GET /healthz HTTP/1.1\r\nX-Slow: ", b"POST /api/jobs HTTP/1.1\r\nContent-Length: 90\r\n\r\n"]
)
def test_client_that_sends_byte_for_byte_loses_its_connection(queue, start):
    address = queue.url.removeprefix("http://").split(":")
    started_at = time.monotonic()

    def send_slowly(slow: socket.socket) -> None:
        while time.monotonic() - started_at < 8:
            slow.sendall(b"a")
            time.sleep(0.05)
            assert urllib.request.urlopen(f"{queue.url}/healthz").status == 200

    with socket.create_connection((address[0], int(address[1])), timeout=10) as slow:
        slow.sendall(start)
        with pytest.raises(OSError, match=r"[Bb]roken pipe|reset|closed"):
            send_slowly(slow)
    assert time.monotonic() - started_at < 6


def test_client_that_sends_a_large_body_fast_enough_keeps_its_connection(queue, monkeypatch, tmp_path):
    monkeypatch.setattr(timed_protocol, "BYTES_PER_SECOND", 1000)
    path, digest = write_zip(tmp_path / "a.zip", *(f"{i}.py" for i in range(10)))
    content, address = path.read_bytes(), queue.url.removeprefix("http://").split(":")
    head = f"PUT /api/uploads?sha256={digest} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {queue.token()}\r\n"
    with socket.create_connection((address[0], int(address[1])), timeout=10) as steady:
        steady.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode())
        for first in range(0, len(content), len(content) // 15):  # longer than two times the limit for a request
            steady.sendall(content[first : first + len(content) // 15])
            time.sleep(0.08)
        assert steady.recv(1000).startswith(b"HTTP/1.1 200")
    assert queue.archives.has(digest)
