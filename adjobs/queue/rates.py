"""How much one client may ask of the queue: requests for each token, wrong tokens for each address, seconds for each request."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUESTS_PER_SECOND, REQUESTS_AT_ONCE = 200.0, 2000
"""Of one token, on average and in a burst."""

FAILURES_PER_SECOND, FAILURES_AT_ONCE = 0.5, 20
"""Requests with a wrong token, or none, of one address."""

REQUEST_SECONDS = 30.0
"""In which a request must have been sent; one that comes slower holds a connection."""

BYTES_PER_SECOND = 64_000
"""A body that takes longer must come at least so fast."""

MAX_CLIENTS = 10_000


class TokenBuckets:
    """A bucket for each client: it holds so many requests, and fills at a rate."""

    def __init__(self, per_second: float, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        """All of them full.

        Args:
            per_second: requests on average.
            at_once: requests in a burst.
            clock: in seconds.
        """
        self._per_second, self._at_once, self._clock = per_second, at_once, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # level and its time, the longest unused first

    def take(self, client: str) -> float:
        """Take one request from a client's bucket; returns 0, or the seconds to wait if it is empty."""
        level, now = self._level(client), self._clock()
        allowed = level >= 1
        self._levels[client] = (level - 1 if allowed else level, now)
        self._levels.move_to_end(client)
        if len(self._levels) > MAX_CLIENTS:
            self._levels.popitem(last=False)
        return 0.0 if allowed else (1 - level) / self._per_second

    def wait(self, client: str) -> float:
        """The seconds that a client must wait for its next request, without taking it."""
        return max(0.0, (1 - self._level(client)) / self._per_second)

    def knows(self, client: str) -> bool:
        """Whether a client has taken anything lately."""
        return client in self._levels

    def _level(self, client: str) -> float:
        now = self._clock()
        level, at = self._levels.get(client, (float(self._at_once), now))
        return min(self._at_once, level + max(0.0, now - at) * self._per_second)


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
