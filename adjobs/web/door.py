"""Where a service listens: address, port and certificate."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from adjobs.errors import ServerError, one_line
from adjobs.http import LOOPBACK
from adjobs.web.timed_protocol import TimedProtocol

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Door:
    """Where a service answers: address, port, and the files of its certificate and key; None for plain HTTP."""

    host: str
    port: int
    tls_cert: str | None = None
    tls_key: str | None = None

    @property
    def scheme(self) -> str:
        """Of its address."""
        return "http" if self.tls_cert is None else "https"

    @property
    def url(self) -> str:
        """Its address, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach it."""
        return self.host in LOOPBACK

    def check(self, secrets: str = "tokens") -> None:
        """Raise ServerError if the certificate cannot be used; warn if secrets, named so, would come unencrypted."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ServerError("--tls-cert and --tls-key belong together; give both or none")
        if self.tls_cert is not None and self.tls_key is not None:
            _check_certificate(self.tls_cert, self.tls_key)
        elif not self.is_local:
            action = "give --tls-cert and --tls-key, or let a proxy with TLS answer"
            log.warning("%s come to %s:%d unencrypted; %s", secrets, self.host, self.port, action)


class RunningServer:
    """Uvicorn in a thread: the main thread keeps the signals."""

    def __init__(self, app: ASGIApp, door: Door, **options: Any) -> None:
        """Not started yet.

        Args:
            app: what answers.
            door: where.
            options: of :class:`uvicorn.Config`.
        """
        self._door = door
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=door.host,
                port=door.port,
                log_level="warning",
                access_log=False,
                http=TimedProtocol,
                ssl_certfile=door.tls_cert,
                ssl_keyfile=door.tls_key,
                **options,
            )
        )
        self._thread = threading.Thread(target=self._run, daemon=True, name="http")

    def _run(self) -> None:
        with suppress(SystemExit):  # of uvicorn, when the port is taken; `start` raises what says so
            self._server.run()

    def start(self) -> None:
        """Start, and wait until it listens.

        Raises:
            ServerError: it cannot.
        """
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                problem = f"cannot answer at {self._door.host}:{self._door.port}"
                raise ServerError(f"{problem}; is the port taken? Choose another with --port")
            time.sleep(0.05)

    def is_alive(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive()

    def stop(self, seconds: float) -> None:
        """Accept no more connections, and wait until the requests that came before are answered, at most so long."""
        self._server.should_exit = True
        self._thread.join(seconds)


def _check_certificate(cert: str, key: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")  # never asked for on the terminal
    except OSError as error:  # ssl.SSLError is one
        action = "give a certificate and its private key, without a password, as PEM files"
        raise ServerError(f"--tls-cert {cert}, --tls-key {key}: cannot be used ({one_line(error)}); {action}") from error
