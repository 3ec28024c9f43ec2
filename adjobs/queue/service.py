"""The process ``adjobs dispatch``: a dispatcher, and beside it the queue's HTTP interface."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

import uvicorn

from adjobs.config.environment import load_settings
from adjobs.config.settings import Settings
from adjobs.errors import QueueError, one_line
from adjobs.queue import tokens
from adjobs.queue.archives import Archives
from adjobs.queue.dispatcher import Dispatcher, Limits
from adjobs.queue.folder import JobFolder
from adjobs.queue.http import LOOPBACK
from adjobs.queue.page import link_base
from adjobs.queue.rates import TimedProtocol
from adjobs.queue.ray_jobs import RayJobs
from adjobs.queue.server import make_app
from adjobs.queue.store import JobStore

POLL_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
"""After which a thread that computes lets another go on: with Python's 5 ms, eight clients at once wait for each other."""

log = logging.getLogger(__name__)


def open_store(settings: Settings | None = None) -> JobStore:
    """The database of the queue on this machine.

    Raises:
        QueueError: it cannot be opened.
    """
    return JobStore((settings or load_settings()).queue.database)


def serve(
    settings: Settings,
    host: str,
    port: int,
    slots: int,
    max_per_user: int | None,
    tls_cert: str | None,
    tls_key: str | None,
) -> None:
    """Dispatch jobs and answer clients, until the process is asked to stop.

    Any error ends it: what it did is in the database, and whatever started it starts it again.

    Raises:
        QueueError: no cluster is known, the port is taken, or the database fails.
    """
    if settings.queue.ray_dashboard is None:
        raise QueueError("no Ray cluster is known; set RAY_API_SERVER_ADDRESS to its dashboard, or start one with 'adjobs up'")
    if (tls_cert is None) != (tls_key is None):
        raise QueueError("--tls-cert and --tls-key belong together; give both or none")
    if tls_cert is not None and tls_key is not None:
        _check_certificate(tls_cert, tls_key)
    elif host not in LOOPBACK:
        log.warning("tokens come to %s:%d unencrypted; give --tls-cert and --tls-key, or let a proxy with TLS answer", host, port)
    sys.setswitchinterval(SWITCH_SECONDS)
    store = open_store(settings)
    _register_local_token(store, settings.queue.token_path)
    archives = Archives.open(settings.artifacts)
    cluster, limits = RayJobs(settings.queue.ray_dashboard, _ray_token(), archives=archives), Limits(slots, max_per_user)
    config = uvicorn.Config(
        make_app(store, cluster, limits, archives, tracking_url=link_base(settings.tracking_uri)),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        http=TimedProtocol,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        limit_concurrency=200,
        timeout_keep_alive=10,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    name = f"{socket.gethostname()}:{port}"
    dispatcher = Dispatcher(name, store, cluster, lambda job: JobFolder.open(settings.artifacts, job), limits, {})
    try:
        _wait_until_started(server, thread, host, port)
        log.info("the queue answers at %s://%s:%d, %d slots", "https" if tls_cert else "http", host, port, slots)
        dispatcher.run(POLL_SECONDS, lambda: not thread.is_alive())
        raise QueueError("the queue's HTTP interface has ended; the log above says why")
    finally:
        server.should_exit = True
        thread.join(10)
        store.close()


def _check_certificate(cert: str, key: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")  # never asked for on the terminal
    except OSError as error:  # ssl.SSLError is one
        action = "give a certificate and its private key, without a password, as PEM files"
        raise QueueError(f"--tls-cert {cert}, --tls-key {key}: cannot be used ({one_line(error)}); {action}") from error


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread, host: str, port: int) -> None:
    while not server.started:
        if not thread.is_alive():
            raise QueueError(f"the queue cannot answer at {host}:{port}; is the port taken? Choose another with --port")
        time.sleep(0.05)


def _ray_token() -> str | None:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return os.environ.get("RAY_AUTH_TOKEN") or (Path(path).read_text().strip() if path else None)


def _register_local_token(store: JobStore, path: Path | None) -> None:
    """Let the user of this machine in, whose token file the embedded stack made."""
    if path is None:
        return
    try:
        token, owner = path.read_text().strip(), path.owner()
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise QueueError(f"{path}: cannot be read ({error}); correct ADJOBS_QUEUE_TOKEN_PATH") from error
    if len(token) < tokens.MIN_LENGTH:
        problem = f"holds a token of {len(token)} characters, {tokens.MIN_LENGTH} are needed"
        raise QueueError(f"{path}: {problem}; make one with 'adjobs token create', or correct ADJOBS_QUEUE_TOKEN_PATH")
    with store.transaction() as connection:
        tokens.register(connection, token, owner, tokens.Role.ADMIN, time.time())
