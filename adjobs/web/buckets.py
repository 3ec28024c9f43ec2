"""How much one client may ask: a bucket of requests for each, which fills at a rate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

FAILURES_PER_SECOND, FAILURES_AT_ONCE = 0.5, 20
"""Requests with a wrong secret, or none, of one address."""

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
