"""Several writers whose every call may come before or after every call of the others, and of whom any may be killed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from adjobs.errors import RegistryError
from adjobs.registry import journal as journal_module
from adjobs.registry.changes import promote, rollback
from adjobs.registry.history import History
from adjobs.registry.journal import INTENT_TAG, Journal
from adjobs.registry.models import CHALLENGER, CHAMPION, ModelVersion, RegisteredModel
from adjobs.registry.record import Action
from adjobs.registry.timeline import aliases_after
from adjobs.storage import Entry

NAME = "line-3"
CREATED = datetime(2026, 11, 1, tzinfo=UTC)
VERSIONS = range(1, 6)
SWITCH = 0.1  # probability that another writer goes on after a call: one that stands still must be overtaken by whole changes


class Killed(BaseException):
    """Stands for kill -9."""


class Schedule:
    """Lets one writer at a time make one call, in an order that is drawn."""

    def __init__(self, seed: int, kills: float) -> None:
        self.rng, self.kills = random.Random(seed), kills
        self.turns: dict[threading.Thread, threading.Semaphore] = {}
        self.doomed: set[threading.Thread] = set()
        self.is_waiting = threading.Semaphore(0)

    def before_call(self) -> None:
        """Called before every call of a service; threads that are not writers pass."""
        turn = self.turns.get(threading.current_thread())
        if turn is None:
            return
        self.is_waiting.release()
        turn.acquire()
        if threading.current_thread() in self.doomed:
            raise Killed

    def run(self, actions: list[Callable[[], object]]) -> None:
        def work(action: Callable[[], object]) -> None:
            try:
                self.before_call()
                action()
            except (Killed, RegistryError):
                pass
            finally:
                self.turns.pop(threading.current_thread())
                self.is_waiting.release()

        threads = [threading.Thread(target=work, args=(action,)) for action in actions]
        self.turns = {thread: threading.Semaphore(0) for thread in threads}
        for thread in threads:
            thread.start()
            self.is_waiting.acquire()
        thread = threads[0]
        while self.turns:
            if thread not in self.turns or self.rng.random() < SWITCH:
                thread = self.rng.choice([thread for thread in threads if thread in self.turns])
            if self.rng.random() < self.kills:
                self.doomed.add(thread)
            self.turns[thread].release()
            self.is_waiting.acquire()


class MemoryStore:
    """Objects in memory, as far as a history needs them."""

    def __init__(self, schedule: Schedule) -> None:
        self.objects: dict[str, bytes] = {}
        self.schedule = schedule

    def create(self, key: str, data: bytes) -> bool:
        self.schedule.before_call()
        return self.objects.setdefault(key, data) == data

    def exists(self, key: str) -> bool:
        self.schedule.before_call()
        return key in self.objects

    def list(self, prefix: str) -> list[Entry]:
        self.schedule.before_call()
        return [Entry(key, 1, "") for key in sorted(self.objects) if key.startswith(prefix)]

    def read(self, key: str) -> bytes:
        return self.objects[key]


class MemoryModels:
    """One registered model in memory, with the calls of `ModelStore`."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.aliases: dict[str, int] = {}
        self.tags: dict[str, str] = {}

    def model(self, name: str) -> RegisteredModel:
        self.schedule.before_call()
        return RegisteredModel(name, CREATED, dict(self.aliases), "", dict(self.tags), VERSIONS[-1])

    def version(self, model: RegisteredModel, version: int) -> ModelVersion:
        return ModelVersion(model.name, version, CREATED, "", "READY")

    def has_version(self, name: str, version: int) -> bool:
        return version in VERSIONS

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        self.schedule.before_call()
        self.aliases.pop(alias, None)
        if version is not None:
            self.aliases[alias] = version

    def set_tag(self, name: str, key: str, value: str) -> None:
        self.schedule.before_call()
        self.tags[key] = value

    def delete_tag(self, name: str, key: str) -> None:
        self.schedule.before_call()
        self.tags.pop(key, None)


class MemoryJournal(Journal):
    def __init__(self, models: MemoryModels, objects: MemoryStore, user: str) -> None:
        super().__init__(models, "memory", user)  # type: ignore[arg-type]
        self.objects = objects

    def _history(self, model: RegisteredModel) -> History:
        return History(self.objects)  # type: ignore[arg-type]


def simulate(seed: int, kills: float) -> tuple[MemoryModels, Journal, list[Any]]:
    """Three writers with three commands each; returns the model, a journal of it, and the records that the writers were given."""
    schedule = Schedule(seed, kills)
    models, rng = MemoryModels(schedule), random.Random(seed + 1)
    objects = MemoryStore(schedule)
    returned: list[Any] = []

    def writer(user: str, commands: list[tuple[str, int]]) -> Callable[[], None]:
        def run() -> None:
            journal = MemoryJournal(models, objects, user)
            for command, version in commands:
                try:
                    if command == "rollback":
                        returned.append(rollback(journal, NAME))
                    elif command == "reconcile":
                        journal.reconcile(NAME)
                    else:
                        returned.append(promote(journal, NAME, version, alias=command))
                except RegistryError:
                    continue

        return run

    names = (CHAMPION, CHAMPION, CHALLENGER, "rollback", "reconcile")
    commands = [[(rng.choice(names), rng.choice(VERSIONS)) for _ in range(3)] for _ in range(3)]
    schedule.run([writer(f"user {number}", mine) for number, mine in enumerate(commands)])
    return models, MemoryJournal(models, objects, "last"), returned


@pytest.mark.parametrize("kills", [0.0, 0.03])
def test_writers_in_any_order_leave_aliases_and_history_in_step(kills, monkeypatch):
    for seed in range(60):
        monkeypatch.undo()
        models, journal, returned = simulate(seed, kills)
        records = journal.reconcile(NAME).records
        assert models.aliases == {alias: version for alias, version in aliases_after(records).items() if version is not None}, (
            seed
        )
        assert [record.number for record in records] == list(range(1, len(records) + 1)), seed
        assert {record.token for record in returned} <= {record.token for record in records}, seed
        for number, record in enumerate(records):
            before = aliases_after(records[:number])
            assert all(before[change.alias] == change.before for change in record.changes), seed
            assert record.action != Action.OUTSIDE, f"{seed}: nothing but adjobs has moved an alias"
        monkeypatch.setattr(journal_module, "LEASE_SECONDS", 0)
        assert journal.reconcile(NAME).records == records, seed
        numbers = [int(value.split()[0]) for key, value in models.tags.items() if key.startswith(INTENT_TAG)]
        assert [number for number in numbers if number <= len(records) or kills == 0] == [], seed
