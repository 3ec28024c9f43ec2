"""A lease on a folder or S3 prefix: of all processes that want to work on it, one does, and a dead one does not block it.

Leases are numbered objects, made by a conditional put. A lease is over when its holder says so, when its time is up, or when the
holder was a process of this machine that lives no more. Its number fences: who holds an older one must write nothing more.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from adjobs.errors import AdjobsError, StorageError, SupersededError
from adjobs.jobs.lifecycle import driver_tags, is_driver_alive
from adjobs.storage import Store

log = logging.getLogger(__name__)

SECONDS = 120.0
"""After which another process may take over from one that does not renew."""

_FOLDER = "leases"


class HeldError(AdjobsError):
    """Another process holds the lease."""


@dataclass(frozen=True)
class Lease:
    """A lease that this process holds.

    Attributes:
        store: what it is on.
        number: higher than that of every lease before.
    """

    store: Store
    number: int

    def ensure_current(self) -> None:
        """Nothing, as long as nobody has taken over.

        Raises:
            SupersededError: somebody has.
            StorageError: the storage does not answer.
        """
        if last_number(self.store) != self.number:
            raise SupersededError("another process has taken over this retraining; this one writes nothing more")


@contextmanager
def hold(
    store: Store, *, seconds: float = SECONDS, wait_s: float = 0.0, clock: Callable[[], float] = time.time
) -> Iterator[Lease]:
    """Hold the lease for a block; it is renewed by a thread.

    Args:
        store: what it is on.
        seconds: after which it is over if it is not renewed.
        wait_s: how long to wait for another holder.
        clock: seconds since the epoch.

    Raises:
        HeldError: another process holds it.
        StorageError: the storage does not answer.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            lease = _take(store, seconds, clock)
            break
        except HeldError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(min(1.0, seconds / 10))
    done = threading.Event()
    thread = threading.Thread(target=_renew, args=(lease, seconds, clock, done), daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(StorageError):  # it is over by itself later
            store.write(_key(lease.number, "end"), b"{}")


def last_number(store: Store) -> int:
    """The number of the newest lease; 0 if there never was one."""
    numbers = (re.fullmatch(rf"{_FOLDER}/(\d{{8}})\.json", entry.key) for entry in store.list(_FOLDER))
    return max((int(match[1]) for match in numbers if match), default=0)


def _take(store: Store, seconds: float, clock: Callable[[], float]) -> Lease:
    last = last_number(store)
    if last and (holder := _living_holder(store, last, seconds, clock())) is not None:
        raise HeldError(f"another process ({holder}) works on it; wait until it ends, or at most {seconds:.0f} s if it was lost")
    lease = Lease(store, last + 1)
    if not store.create(_key(lease.number, "json"), _content(seconds, clock)):
        raise HeldError("another process has just begun to work on it; wait until it ends")
    for number in range(max(1, last - 1), last):  # the last one stays: its holder may still ask
        store.delete(_key(number, "json"))
        store.delete(_key(number, "end"))
    return lease


def _living_holder(store: Store, number: int, seconds: float, now: float) -> str | None:
    """Who holds a lease, such as ``host:4711``; None if it is over."""
    if store.exists(_key(number, "end")):
        return None
    try:
        document: dict[str, Any] = json.loads(store.read(_key(number, "json")))
        driver, until = str(document["driver"]), float(document["until"])
    except (ValueError, LookupError, TypeError):
        return None  # damaged
    # One that is longer than any is of a time before the clock was set back.
    if until < now or until > now + 2 * seconds:
        return None
    host, _, process = driver.partition(":")
    if host == socket.gethostname() and not is_driver_alive({"driver": driver}):
        return None
    return f"{host}:{process.partition(':')[0]}"


def _renew(lease: Lease, seconds: float, clock: Callable[[], float], done: threading.Event) -> None:
    while not done.wait(seconds / 4):
        try:
            if last_number(lease.store) == lease.number:
                lease.store.write(_key(lease.number, "json"), _content(seconds, clock))
        except StorageError as error:
            log.warning("the lease is not renewed: %s", error)


def _content(seconds: float, clock: Callable[[], float]) -> bytes:
    document = {"driver": driver_tags()["driver"], "until": clock() + seconds, "token": secrets.token_hex(8)}
    return json.dumps(document).encode()


def _key(number: int, suffix: str) -> str:
    return f"{_FOLDER}/{number:08}.{suffix}"
