"""The certificate of SeaweedFS's inner ports; SeaweedFS itself is asked in tests/integration."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adjobs.stack.certificates import make_certificate, requires_certificate, security_settings


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "certificate.pem"
    make_certificate(path, "127.0.0.1")
    return path


@pytest.fixture
def serve() -> Iterator[Callable[[ssl.SSLContext | None], int]]:
    """Starts a server for one connection, with TLS or without; returns its port."""
    threads = []

    def start(context: ssl.SSLContext | None) -> int:
        listener = socket.create_server(("127.0.0.1", 0))

        def answer() -> None:
            with listener, listener.accept()[0] as connection:
                try:
                    if context is not None:
                        context.wrap_socket(connection, server_side=True).close()
                    else:
                        connection.recv(1000)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                except OSError:
                    pass  # the client ends the handshake

        threads.append(threading.Thread(target=answer))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield start
    for thread in threads:
        thread.join(5)


def server_context(certificate: Path, verify: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = verify
    return context


def test_make_certificate_file_is_private_and_new_each_time(certificate: Path) -> None:
    first = certificate.read_text()
    make_certificate(certificate, "127.0.0.1")
    assert stat.S_IMODE(certificate.stat().st_mode) == 0o600
    assert certificate.read_text() != first
    assert [path.name for path in certificate.parent.iterdir()] == ["certificate.pem"]


def test_make_certificate_signs_itself_for_its_address_at_both_ends(certificate: Path) -> None:
    client, server = ssl.create_default_context(cafile=certificate), server_context(certificate, ssl.CERT_REQUIRED)
    client.load_cert_chain(certificate)
    left, right = socket.socketpair()
    with left, right:
        thread = threading.Thread(target=lambda: server.wrap_socket(left, server_side=True).sendall(b"x"))
        thread.start()
        with client.wrap_socket(right, server_hostname="127.0.0.1") as connection:  # which checks the address
            assert connection.recv(1) == b"x"
        thread.join(5)


def test_security_settings_have_new_keys_at_each_start_and_one_certificate(tmp_path: Path) -> None:
    first, second = security_settings(tmp_path / "c.pem"), security_settings(tmp_path / "c.pem")
    keys = {name for name in first if name.startswith("WEED_JWT_")}
    assert len(keys) == len({first[name] for name in keys}) == 4
    assert {name for name in first if first[name] != second[name]} == keys
    assert {first[name] for name in first.keys() - keys} == {str(tmp_path / "c.pem"), "true"}


def test_requires_certificate_is_false_of_an_open_port_and_none_without_one(
    certificate: Path, serve: Callable[[ssl.SSLContext | None], int]
) -> None:
    assert requires_certificate("127.0.0.1", serve(server_context(certificate, ssl.CERT_REQUIRED)))
    assert requires_certificate("127.0.0.1", serve(server_context(certificate, ssl.CERT_NONE))) is False
    assert requires_certificate("127.0.0.1", serve(None)) is False
    newest = server_context(certificate, ssl.CERT_NONE)
    newest.minimum_version = ssl.TLSVersion.TLSv1_3  # refuses the handshake, but not for want of a certificate
    assert requires_certificate("127.0.0.1", serve(newest)) is False
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert requires_certificate("127.0.0.1", port) is None
