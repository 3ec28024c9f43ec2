"""The record of passes: what each was started with, and what each of its steps gave.

A pass is a folder of objects, ``passes/00000003/``: ``start.json``, one object for each finished step, and ``end.json``. All are
made by a conditional put and never change. A pass that was killed goes on where it was: a step whose object is missing is done
again, and must find what it did before it was killed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adjobs.errors import DamagedError, one_line
from adjobs.storage import Store

START, END = "start", "end"


@dataclass(frozen=True)
class PassStart:
    """What a pass was started with.

    Attributes:
        number: of passes of this model, from 1.
        started_at: in UTC, ISO 8601.
        by: who started it.
        reasons: why it was due.
        config: the retraining, as its file has it.
        dataset_version: that is trained on.
        fingerprint: of that version.
        champion: version in force; None: there is none.
        new_labels: labelled images that the champion has not seen.
    """

    number: int
    started_at: str
    by: str
    reasons: tuple[str, ...]
    config: Mapping[str, Any]
    dataset_version: int
    fingerprint: str
    champion: int | None
    new_labels: int

    @property
    def inputs(self) -> str:
        """A digest of all that decides what comes of the pass: data, champion, and the retraining but for when it is due."""
        return digest_inputs(self.config, self.fingerprint, self.champion)

    @property
    def request_id(self) -> str:
        """By which its run, its version and its promotion are known."""
        return f"retraining-{self.inputs[:16]}-{self.number}"


def digest_inputs(config: Mapping[str, Any], fingerprint: str, champion: int | None) -> str:
    """A digest of what a pass is started with."""
    deciding = {key: value for key, value in config.items() if key not in ("when", "webhook", "inbox", "inbox_format")}
    return hashlib.sha256(json.dumps([deciding, fingerprint, champion], sort_keys=True).encode()).hexdigest()


class Pass:
    """One pass."""

    def __init__(self, store: Store, start: PassStart) -> None:
        self._store, self.start = store, start

    def step(self, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The outcome of a step, which is done unless it was done before.

        Args:
            name: of the step.
            work: does it; its outcome is JSON. It is repeated if the process is killed before the outcome is stored.

        Raises:
            StorageError: the storage does not answer.
            DamagedError: an outcome cannot be read.
        """
        known = self.outcome(name)
        if known is not None:
            return known
        content = json.dumps(dict(work()), indent=1, sort_keys=True).encode()
        self._store.create(_key(self.start.number, name), content)
        known = self.outcome(name)  # that of another process, if it was first
        assert known is not None
        return known

    def outcome(self, name: str) -> dict[str, Any] | None:
        """What a step gave; None if it has not ended."""
        key = _key(self.start.number, name)
        return _read(self._store, key) if self._store.exists(key) else None


class Passes:
    """The passes of one model, in a folder or an S3 prefix.

    All methods raise StorageError if the storage does not answer, and DamagedError if an object cannot be read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def last(self) -> Pass | None:
        """The newest pass."""
        numbers = (re.fullmatch(r"passes/(\d{8})/start\.json", entry.key) for entry in self._store.list("passes"))
        number = max((int(match[1]) for match in numbers if match), default=0)
        return self.get(number) if number else None

    def get(self, number: int) -> Pass:
        """A pass by its number."""
        key = _key(number, START)
        document = _read(self._store, key)
        try:
            return Pass(self._store, PassStart(**{**document, "reasons": tuple(document["reasons"])}))
        except (TypeError, LookupError) as error:
            raise _damaged(self._store, key, error) from error

    def start(self, start: PassStart) -> Pass:
        """Start a pass; the one of this number that another process has started, if it was first."""
        self._store.create(_key(start.number, START), json.dumps(asdict(start), indent=1).encode())
        return self.get(start.number)


def _read(store: Store, key: str) -> dict[str, Any]:
    try:
        return dict(json.loads(store.read(key)))
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(store, key, error) from error


def _damaged(store: Store, key: str, error: Exception) -> DamagedError:
    return DamagedError(f"{store.uri(key)}: is damaged ({one_line(error)}); restore it from a backup")


def _key(number: int, name: str) -> str:
    return f"passes/{number:08}/{name}.json"
