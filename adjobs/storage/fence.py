"""A fence between the attempts of a job: only the current one may write what the others build on.

An attempt cannot always be ended from outside: the head that started it may be lost, or its node cut off. It goes on, and is kept
from writing where it writes.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from adjobs.errors import DamagedError, SupersededError, one_line
from adjobs.storage import Store, open_store

KEY = "attempt.json"


class Fence(NamedTuple):
    """An attempt of a job, numbered from 1, and the folder or ``s3://`` URI where it is stored which one is current."""

    uri: str
    attempt: int

    def ensure_current(self) -> None:
        """Nothing, as long as no later attempt has begun.

        Raises:
            SupersededError: one has.
            StorageError: the storage does not say which attempt is the current one.
        """
        current = read_current(open_store(self.uri))
        if current != self.attempt:
            raise SupersededError(f"attempt {current} of this job has begun; attempt {self.attempt} writes nothing more")


def write_current(store: Store, attempt: int) -> None:
    """Make an attempt the current one."""
    store.write(KEY, json.dumps({"attempt": attempt}).encode())


def read_current(store: Store) -> int:
    """The current attempt.

    Raises:
        StorageError: there is none.
        DamagedError: its object is damaged.
    """
    try:
        return int(json.loads(store.read(KEY))["attempt"])
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedError(f"{store.uri(KEY)}: is damaged ({one_line(error)}); submit the job again") from error
