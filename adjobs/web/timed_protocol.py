"""HTTP for uvicorn that a slow client cannot hold."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 30.0
"""In which a request must have been sent; one that comes slower holds a connection."""

BYTES_PER_SECOND = 64_000
"""A body that takes longer must come at least so fast."""


class TimedProtocol(H11Protocol):
    """HTTP whose requests must arrive within seconds: a client that sends byte for byte loses its connection."""

    _timer: asyncio.TimerHandle | None = None
    _last: Any = None
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """It has sent something."""
        self._received += len(data)
        super().data_received(data)
        if self._timer is None:
            self._start_timer()

    def _start_timer(self) -> None:
        self._last, self._received = self.cycle, 0
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._check)

    def _check(self) -> None:
        self._timer = None
        cycle = self.cycle
        is_slow = self._received < BYTES_PER_SECOND * REQUEST_SECONDS
        if cycle is None or (cycle is self._last and (cycle.response_complete or (cycle.more_body and is_slow))):
            self.transport.close()
        elif cycle.more_body:
            self._start_timer()
