"""Group commit: what several threads want to write while one of them writes is written together, by the next of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Entry(Generic[Item, Result]):
    """An item that waits, with its result or the error instead."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.is_leader = False
        self.wakes = threading.Event()
        self.result: Result | None = None
        self.error: BaseException | None = None


class Group(Generic[Item, Result]):
    """Hands the items of all threads that wait to one function, a batch at a time, in the order in which they came."""

    def __init__(self, write: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        """Without starting anything.

        Args:
            write: writes a batch, all or none, and returns a result for each item.
        """
        self._write = write
        self._lock = threading.Lock()
        self._waiting: list[_Entry[Item, Result]] = []
        self._is_busy = False

    def submit(self, item: Item) -> Result:
        """Write an item, with others if they wait too; returns its own result, or raises its own error."""
        entry: _Entry[Item, Result] = _Entry(item)
        with self._lock:
            self._waiting.append(entry)
            entry.is_leader, self._is_busy = not self._is_busy, True
        if not entry.is_leader:
            entry.wakes.wait()
        if entry.is_leader:
            self._lead()
        if entry.error is not None:
            raise entry.error
        return entry.result  # type: ignore[return-value]  # of a written entry

    def _lead(self) -> None:
        """Write all that wait, wake their threads, and leave the next batch to the first that came meanwhile."""
        with self._lock:
            batch, self._waiting = self._waiting, []
        try:
            self._write_batch(batch)
        finally:
            with self._lock:
                self._is_busy = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].is_leader = True
                    self._waiting[0].wakes.set()
            for entry in batch:
                entry.wakes.set()

    def _write_batch(self, batch: Sequence[_Entry[Item, Result]]) -> None:
        try:
            results = self._write([entry.item for entry in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for entry in batch:  # one item must not cost the others theirs
                self._write_batch([entry])
            return
        except BaseException as error:  # the process ends
            for entry in batch:
                entry.error = error
            raise
        for entry, result in zip(batch, results, strict=True):
            entry.result = result
