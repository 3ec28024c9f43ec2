"""When the dispatcher of this process was last at work."""

from __future__ import annotations

import time
from collections.abc import Callable

LATE_SECONDS = 30.0
"""A dispatcher that takes longer for one step is late: Ray, the storage or the database does not answer it."""


class Heartbeat:
    """The time of the dispatcher's last step."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Beat once."""
        self._clock = clock
        self.beat()

    def beat(self) -> None:
        """Note that a step was finished."""
        self._at = self._clock()

    def age(self) -> float:
        """Seconds since the last step."""
        return self._clock() - self._at
