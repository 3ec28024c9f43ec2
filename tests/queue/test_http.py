from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from adjobs.errors import ClusterError, QueueError
from adjobs.queue.client import QueueClient
from adjobs.queue.ray_jobs import RayJobs


class RedirectingServer(HTTPServer):
    """Sends everybody to ``/other``, where it notes what comes."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, RedirectingServer)
        self.server.paths.append(self.path)
        self.send_response(302)
        self.send_header("Location", f"{self.server.url}/other")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[RedirectingServer]:
    with RedirectingServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_token_does_not_follow_a_redirect(server):
    with pytest.raises(QueueError, match=r"the queue answered 302 \(Found\); is ADJOBS_QUEUE_URL its address\?"):
        QueueClient(server.url, "secret").get("ab")
    with pytest.raises(ClusterError, match=r"does not say what job ab-1 does \(302"):
        RayJobs(server.url, "secret").job("ab-1")
    assert server.paths == ["/api/jobs/ab", "/api/jobs/ab-1"]


def test_token_for_this_machine_does_not_go_through_a_proxy(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(QueueError, match=r"the queue at http://127.0.0.1:1 does not answer"):
        QueueClient("http://127.0.0.1:1", "secret").get("ab")
    assert server.paths == []
