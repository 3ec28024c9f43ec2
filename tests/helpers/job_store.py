"""Jobs in the queue's database, without a queue."""

from __future__ import annotations

import multiprocessing
from typing import Any

from adjobs.errors import QueueError
from adjobs.queue.engine import open_engine
from adjobs.queue.records import NewJob, QueuedJob
from adjobs.queue.store import JobStore


class Clock:
    """A clock that only moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def submit(store: JobStore, key: str, **values: Any) -> str:
    return store.submit(NewJob(**{"key": key, "spec": {"verb": "train"}, "user": "ann", "name": key, **values}))[0].id


def claim(store: JobStore, slots: int = 1, **values: Any) -> QueuedJob | None:
    return store.claim("dispatcher", slots, 30, **values)


def names(jobs: list[QueuedJob]) -> list[str]:
    return [job.name for job in jobs]


def claim_all(store: JobStore, **values: Any) -> list[str]:
    """Names in the order in which they are claimed, with as many slots as it takes."""
    order = []
    while job := claim(store, slots=100, **values):
        order.append(job.name)
    return order


def open_by_processes(url: str, count: int) -> list[str]:
    """Open a database by several processes at once; the error of each, "" if it succeeds."""
    context = multiprocessing.get_context("fork")
    barrier, out = context.Barrier(count), context.Queue()
    processes = [context.Process(target=_open, args=(url, barrier, out)) for _ in range(count)]
    for process in processes:
        process.start()
    messages = [out.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    return messages


def _open(url: str, barrier: Any, out: Any) -> None:
    barrier.wait()
    try:
        open_engine(url).dispose()
        out.put("")
    except QueueError as error:
        out.put(str(error))
