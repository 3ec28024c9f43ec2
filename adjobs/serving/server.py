"""One machine: uvicorn in this process."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence

from adjobs.errors import ServerError
from adjobs.serving.app import make_app
from adjobs.serving.service import PredictionService
from adjobs.web.door import Door, RunningServer

DRAIN_SECONDS = 9.0
"""In which requests that have come must be answered when the process is asked to stop."""

SWITCH_SECONDS = 0.0005
"""After which a thread that computes lets another go on: Python's 5 ms would be felt by each request while a model is loaded."""

MAX_CONNECTIONS = 1000
KEEP_ALIVE_SECONDS = 30

log = logging.getLogger(__name__)


def check_door(door: Door, key_digests: Sequence[str], *, without_key: bool) -> None:
    """Refuse to answer everybody on a network, unless that was said.

    Raises:
        ServerError: there is neither a key nor the word that none is wanted, or the certificate cannot be used.
    """
    if not (door.is_local or key_digests or without_key):
        problem = f"--host {door.host} lets other machines in, and there is no key"
        raise ServerError(f"{problem}; give --api-key-file, or --without-key where a proxy or a network decides who may come")
    door.check("images and keys" if key_digests else "images")


def serve(service: PredictionService, door: Door, key_digests: Sequence[str] = ()) -> None:
    """Answer until the process is asked to stop; then answer what has come.

    Probes are answered at once, predictions as soon as the model is loaded.

    Args:
        service: whose model is not loaded yet.
        door: checked by `check_door`.
        key_digests: of the keys that are let in; none: everybody is.

    Raises:
        ServerError: the port is taken.
        AdjobsError: the model cannot be loaded.
    """
    server = RunningServer(
        make_app(service, key_digests), door, limit_concurrency=MAX_CONNECTIONS, timeout_keep_alive=KEEP_ALIVE_SECONDS
    )
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        server.start()
        service.load()
        current = service.model.current
        log.info("%s answers at %s", current and current.info, door.url)
        while server.is_alive():
            _pause()
        raise ServerError("the HTTP server has ended; the log above says why")
    finally:
        service.drain()
        server.stop(DRAIN_SECONDS)
        service.close()


def _pause() -> None:
    """Between two looks at the server; a signal ends it."""
    time.sleep(0.2)
