"""What is slow to find out and was found out a moment ago."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class _Entry(Generic[Value]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0  # threads that have it or wait for it
        self.value: Value | None = None
        self.until = float("-inf")


class Recent(Generic[Key, Value]):
    """Values by key, kept for a while. Threads that ask for the same one at once wait for one answer; errors are not kept."""

    def __init__(self, seconds: Callable[[float], float], clock: Callable[[], float] = time.monotonic) -> None:
        """Empty.

        Args:
            seconds: how long a value is kept, from the seconds that it took.
            clock: in seconds.
        """
        self._seconds, self._clock = seconds, clock
        self._lock = threading.Lock()
        self._entries: dict[Key, _Entry[Value]] = {}

    def get(self, key: Key, find: Callable[[], Value]) -> Value:
        """The value that is kept, or the one that ``find`` returns."""
        with self._lock:
            self._forget()
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
        try:
            with entry.lock:
                started_at = self._clock()
                if entry.until < started_at:
                    entry.value = find()
                    ended_at = self._clock()
                    entry.until = ended_at + self._seconds(ended_at - started_at)
                return entry.value  # type: ignore[return-value]  # None only where Value allows it
        finally:
            with self._lock:
                entry.users -= 1

    def _forget(self) -> None:
        now = self._clock()
        for key in [key for key, entry in self._entries.items() if entry.until < now and not entry.users]:
            del self._entries[key]
