"""What a stranger is told by small servers that are open, closed or silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import psutil
import pytest

from adjobs.stack import probes
from adjobs.stack.probes import Exposure
from tests.helpers.postgres import free_port

METHOD = "/x.Service/Method"


@pytest.fixture(scope="module")
def http_port() -> Iterator[int]:
    """A server that answers ``/200`` with 200, and so on."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:4]))
            self.send_header("Location", "/401")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "exposure"),
    [(200, "open"), (302, "open"), (401, "closed"), (403, "closed"), (404, "unknown"), (500, "unknown")],
)
def test_check_http_by_status(http_port: int, status: int, exposure: str) -> None:
    check = probes.check_http("MLflow", f"http://127.0.0.1:{http_port}/{status}")
    assert (check.what, check.exposure) == ("MLflow", exposure)
    assert str(status) in check.detail


def test_check_http_nothing_listens_is_unknown() -> None:
    check = probes.check_http("S3", f"http://127.0.0.1:{free_port()}/")
    assert check.exposure == Exposure.UNKNOWN
    assert "does not answer" in check.detail


@pytest.fixture(scope="module")
def grpc_port() -> Iterator[tuple[int, dict[str, grpc.StatusCode]]]:
    """A server whose method answers, or ends with the code that is set."""
    answer: dict[str, grpc.StatusCode] = {}

    def method(request: bytes, context: Any) -> bytes:
        if "code" in answer:
            context.abort(answer["code"], "")
        return request

    handler = grpc.method_handlers_generic_handler("x.Service", {"Method": grpc.unary_unary_rpc_method_handler(method)})
    server = grpc.server(ThreadPoolExecutor(1), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port, answer
    server.stop(None)


@pytest.mark.parametrize(
    ("code", "exposure"),
    [
        (None, "open"),
        (grpc.StatusCode.UNAUTHENTICATED, "closed"),
        (grpc.StatusCode.PERMISSION_DENIED, "closed"),
        (grpc.StatusCode.INVALID_ARGUMENT, "open"),  # the method ran
    ],
)
def test_check_grpc_by_code(
    grpc_port: tuple[int, dict[str, grpc.StatusCode]], code: grpc.StatusCode | None, exposure: str
) -> None:
    port, answer = grpc_port
    answer.clear()
    if code is not None:
        answer["code"] = code
    assert probes.check_grpc("Ray cluster", "127.0.0.1", port, METHOD).exposure == exposure


def test_check_grpc_unknown_method_or_no_server_is_unknown(grpc_port: tuple[int, object]) -> None:
    for port, method in ((grpc_port[0], "/x.Service/Other"), (free_port(), METHOD)):
        assert probes.check_grpc("Ray cluster", "127.0.0.1", port, method).exposure == Exposure.UNKNOWN


def test_check_certificate_of_a_server_without_one_is_open(http_port: int) -> None:
    assert probes.check_certificate("S3 filer", "127.0.0.1", http_port).exposure == Exposure.OPEN
    assert probes.check_certificate("S3 filer", "127.0.0.1", free_port()).exposure == Exposure.UNKNOWN


def process_listening_on(address: str, unix: str = "") -> SimpleNamespace:
    tcp = SimpleNamespace(status=psutil.CONN_LISTEN, laddr=SimpleNamespace(ip=address, port=7))
    sockets = {"tcp": [tcp], "unix": [SimpleNamespace(laddr=unix)]}
    return SimpleNamespace(pid=3, name=lambda: "weed", net_connections=sockets.__getitem__)


@pytest.mark.parametrize(
    ("address", "exposure"),
    [("127.0.0.1", "closed"), ("::1", "closed"), ("::ffff:127.0.0.1", "closed"), ("0.0.0.0", "open"), ("::", "open")],
)
def test_check_listeners_by_address(address: str, exposure: str) -> None:
    addresses, sockets = probes.check_listeners([process_listening_on(address)])
    assert (addresses.exposure, sockets.exposure) == (exposure, "closed")
    if exposure == "open":
        assert addresses.detail == f"{address} port 7 (weed, process 3)"


def test_check_listeners_unix_socket_that_others_may_write_to_is_open(tmp_path: Path) -> None:
    path = Path("/tmp", f"adjobs-test-{tmp_path.name}-{free_port()}.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        try:
            path.chmod(0o777)
            assert probes.check_listeners([process_listening_on("::1", str(path))])[1].exposure == Exposure.OPEN
            path.chmod(0o700)
            assert probes.check_listeners([process_listening_on("::1", str(path))])[1].exposure == Exposure.CLOSED
        finally:
            path.unlink()
    assert probes.check_listeners([process_listening_on("::1", "@abstract")])[1].exposure == Exposure.OPEN


def test_check_listeners_of_this_process(http_port: int) -> None:
    check = probes.check_listeners([psutil.Process()])[0]
    assert check.exposure == Exposure.CLOSED
