from __future__ import annotations

import socket
from contextlib import closing

import pytest
import requests
from fastapi import FastAPI

from adjobs.errors import ServerError
from adjobs.stack.certificates import make_certificate
from adjobs.web.door import Door, RunningServer


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_running_server_with_a_certificate_answers_by_tls_alone(tmp_path):
    certificate = tmp_path / "cert.pem"
    make_certificate(certificate, "127.0.0.1")
    app = FastAPI()
    app.get("/")(lambda: "ready")
    door = Door("127.0.0.1", free_port(), str(certificate), str(certificate))
    door.check()
    server = RunningServer(app, door)
    server.start()
    try:
        assert door.url == f"https://127.0.0.1:{door.port}"
        assert requests.get(door.url, verify=str(certificate), timeout=10).json() == "ready"
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(door.url, timeout=10)
        with pytest.raises(requests.ConnectionError):
            requests.get(door.url.replace("https", "http"), timeout=10)
    finally:
        server.stop(10)
    assert not server.is_alive()


def test_running_server_port_that_is_taken_is_one_line():
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = RunningServer(FastAPI(), Door("127.0.0.1", port))
        with pytest.raises(ServerError, match=f"cannot answer at 127.0.0.1:{port}; is the port taken"):
            server.start()


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:80"), ("::1", "http://[::1]:80")])
def test_door_url_is_one_to_open(host, url):
    assert (Door(host, 80).url, Door(host, 80).is_local) == (url, True)
    assert not Door("0.0.0.0", 80).is_local
