"""The webhook: signed, repeated while the receiver fails, given up when it refuses."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from adjobs.errors import JobError
from adjobs.retraining.webhook import PAUSES, read_key, send

KEY = b"0123456789abcdef"


@contextmanager
def receiver(*answers: int) -> Iterator[tuple[str, list[Any]]]:
    """A server on this machine that answers with these states in turn, the last one for ever; and what it received."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((dict(self.headers), body))
            status = answers[min(len(received), len(answers)) - 1]
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_send_signs_time_and_body():
    with receiver(200) as (url, received):
        assert send(url, KEY, {"pass": 3, "state": "promoted"}, "retraining-1", clock=lambda: 1234.0)
    headers, body = received[0]
    assert json.loads(body) == {"pass": 3, "state": "promoted"}
    assert (headers["X-Adjobs-Delivery"], headers["X-Adjobs-Timestamp"]) == ("retraining-1", "1234")
    expected = hmac.new(KEY, b"1234." + body, hashlib.sha256).hexdigest()
    assert headers["X-Adjobs-Signature"] == f"sha256={expected}"


def test_send_without_a_key_is_not_signed():
    with receiver(204) as (url, received):
        assert send(url, None, {}, "a")
    assert "X-Adjobs-Signature" not in received[0][0]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_send_tries_again_until_it_is_accepted(status):
    pauses: list[float] = []
    with receiver(status, status, 200) as (url, received):
        assert send(url, None, {}, "a", sleep=pauses.append)
    assert len(received) == 3
    assert pauses == list(PAUSES[:2])


def test_send_gives_up_in_the_end(caplog):
    with receiver(500) as (url, received):
        assert not send(url, None, {}, "a", sleep=lambda _: None)
    assert len(received) == len(PAUSES) + 1
    assert "answers 500 Internal Server Error; again in 1 s" in caplog.text


@pytest.mark.parametrize("status", [400, 404, 302])
def test_send_does_not_repeat_what_is_refused_or_follow_to_another_place(status):
    with receiver(status) as (url, received):
        assert not send(url, None, {}, "a", sleep=lambda _: None)
    assert len(received) == 1


def test_send_to_nobody_fails_without_an_exception(caplog):
    with receiver(200) as (url, _):
        pass
    assert not send(url, None, {}, "a", sleep=lambda _: None)
    assert "does not answer" in caplog.text


def test_read_key_without_the_line_break(tmp_path: Path):
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert read_key(str(tmp_path / "key")) == KEY


@pytest.mark.parametrize("content", [None, b"short"])
def test_read_key_refuses_a_missing_file_and_a_short_key(tmp_path: Path, content):
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JobError, match=r"^webhook\.secret_file '.*': (cannot be read|has 5 bytes)"):
        read_key(str(path))
