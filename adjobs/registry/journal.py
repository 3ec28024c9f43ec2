"""Changes of aliases, each of them recorded, and none of them half made.

MLflow moves an alias without asking what it stood for, and remembers neither when nor by whom it was moved. A change is therefore
made in four durable steps:

1. a tag of the model in MLflow announces the record. Who may not change the model is refused here, before anything has changed.
2. the record is added to the history, under the next number. Of several writers at once one succeeds.
3. the aliases are moved.
4. the tag is deleted.

A process that is killed leaves an announcement: without a record it means nothing, with one, whatever command comes next makes
the change complete. A record without an announcement moves nothing by itself: to write to the storage is not enough. Where
an alias differs from the history, something else has moved it, which becomes a record, too.

A process that stood still may move an alias late, after others have gone on. As long as its announcement is there, such a move is
not taken for one of somebody else, but corrected, by itself or whoever comes first. Others therefore leave announcements for
``LEASE_SECONDS``, whether their process was killed or only slow.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from adjobs.errors import RegistryError, StorageError, TrackingError, shown
from adjobs.registry.history import History, history_location
from adjobs.registry.models import ALIASES, CHAMPION, ModelStore, RegisteredModel
from adjobs.registry.record import Action, AliasChange, HistoryRecord
from adjobs.registry.timeline import aliases_after
from adjobs.storage import open_store

LOCATION_TAG = "history"  # of a model: where its history is kept
INTENT_TAG = "intent."  # of a model, followed by a random token; its value is number and digest of the record
LEASE_SECONDS = 120  # more than a call of MLflow takes, with what is repeated of it
ATTEMPTS = 10  # of a change, as long as other writers are first


Records = tuple[HistoryRecord, ...]


@dataclass(frozen=True)
class ModelState:
    """A registered model with its history.

    Attributes:
        model: as MLflow has it.
        records: all changes of its aliases.
        completed: those of them that were interrupted a short while ago, and are complete now.
    """

    model: RegisteredModel
    records: Records
    completed: Records = ()

    @property
    def champion(self) -> int | None:
        """The version in force."""
        return self.model.aliases.get(CHAMPION)


class Journal:
    """The aliases of registered models with their history.

    Every method raises RegistryError for an unknown model, TrackingError if MLflow does not answer, and StorageError if the
    storage of the history does not.

    Args:
        store: MLflow's registry.
        artifacts: folder or ``s3://bucket/prefix`` under which histories are kept.
        user: who makes changes.
    """

    def __init__(self, store: ModelStore, artifacts: str, user: str) -> None:
        self.store = store
        self.user = user
        self._artifacts = artifacts
        self._histories: dict[str, History] = {}  # with their connections, by location

    def inspect(self, name: str) -> ModelState:
        """A model as it is, without completing or recording anything."""
        model = self.store.model(name)
        return ModelState(model, self._history(model).read())

    def reconcile(self, name: str) -> ModelState:
        """Complete a change that was interrupted, record what was changed outside adjobs, and return the model as it is then."""
        for _ in range(ATTEMPTS):
            history = self._history(self.store.model(name))
            records = history.read()
            model = self.store.model(name)  # after the records: what they announce is in it, or was carried out before
            announced = _announced(model, records)
            if self._moves(model, records, announced):
                token = secrets.token_hex(8)
                self.store.set_tag(name, INTENT_TAG + token, _announcement(announced[0]))
                self._carry_out(name, history, records, announced, token)
                continue
            changes = _differences(model, records)
            if not changes:
                self._forget_announcements(model, records)
                # An announcement under another token is that of who completed the change.
                interrupted = tuple(record for record in announced if INTENT_TAG + record.token in model.tags)
                return ModelState(model, records, interrupted)
            self.add(ModelState(model, records), self._outside_record(model, records, changes))
        raise unsettled(name)

    def has_later(self, model: RegisteredModel, record: HistoryRecord) -> bool:
        """Whether the history goes on after a record."""
        return self._history(model).has(record.number + 1)

    def record(self, records: Records, action: Action, changes: tuple[AliasChange, ...], **more: Any) -> HistoryRecord:
        """A record to add to those that were read."""
        return HistoryRecord(len(records) + 1, datetime.now(UTC), self.user, action, changes, **more)

    def add(self, state: ModelState, record: HistoryRecord) -> bool:
        """Announce, add and carry out a record; False if another writer has added one meanwhile, and nothing has changed."""
        model, records, history = state.model, state.records, self._history(state.model)
        if LOCATION_TAG not in model.tags:
            self.store.set_tag(model.name, LOCATION_TAG, history_location(self._artifacts, model))
        self.store.set_tag(model.name, INTENT_TAG + record.token, _announcement(record))
        is_added = False
        try:
            is_added = history.append(records, record)
        finally:
            if not is_added:
                self.store.delete_tag(model.name, INTENT_TAG + record.token)
        if is_added:
            try:
                self._carry_out(model.name, history, (*records, record), (record,), record.token)
            except (TrackingError, StorageError) as error:
                problem = f"record {record.number} ({record.changes[0]}) of model {shown(model.name)} is not carried out in full"
                raise RegistryError(f"{problem}: {error}; the next 'adjobs models' command of this model completes it") from error
        return is_added

    def _carry_out(self, name: str, history: History, records: Records, announced: Records, token: str) -> None:
        """Move the aliases of announced records to where the last record of each wants them, and delete one's own announcement.

        Another writer may have completed these and gone on, while this process stood still: its records are read before the
        announcement is deleted, so that what was moved too late is moved back.
        """
        while True:
            model = self.store.model(name)
            for alias, target in self._moves(model, records, announced).items():
                self.store.set_alias(name, alias, target)
            if not history.has(len(records) + 1):
                break
            records = history.read()
        self.store.delete_tag(name, INTENT_TAG + token)

    def _moves(self, model: RegisteredModel, records: Records, announced: Records) -> dict[str, int | None]:
        """Aliases that announced records have still to move, with the versions for which they shall stand.

        What stands for a version that none of these or later records names was moved by something else.
        """
        if not announced:
            return {}
        requested = [record for record in records[announced[0].number - 1 :] if record.action != Action.OUTSIDE]
        moves = {}
        for alias, target in aliases_after(records).items():
            changes = [change for record in requested if (change := record.change_of(alias)) is not None]
            known = {version for change in changes for version in (change.before, change.after)}
            current = model.aliases.get(alias)
            if current != target and current in known and (target is None or self.store.has_version(model.name, target)):
                moves[alias] = target
        return moves

    def _outside_record(self, model: RegisteredModel, records: Records, changes: tuple[AliasChange, ...]) -> HistoryRecord:
        """What was changed by something else, with what can be known of it: MLflow remembers neither time nor user."""
        befores = {change.before for change in changes if change.before is not None}
        deleted = [version for version in sorted(befores) if not self.store.has_version(model.name, version)]
        reason = f"version {deleted[0]} was deleted" if deleted else ""
        times = [self.store.version(model, change.after).created_at for change in changes if change.after is not None]
        times += [records[-1].at] if records else []
        return self.record(records, Action.OUTSIDE, changes, reason=reason, not_before=max(times, default=None))

    def _forget_announcements(self, model: RegisteredModel, records: Records) -> None:
        """Delete the announcements of records whose number another writer took, and of those that were carried out long ago."""
        now, by_announcement = datetime.now(UTC), {_announcement(record): record for record in _announced(model, records)}
        for key, value in model.tags.items():
            number = value.partition(" ")[0]
            if not key.startswith(INTENT_TAG) or not number.isdecimal() or int(number) > len(records):
                continue
            record = by_announcement.get(value)
            if record is None or abs(now - record.at) > timedelta(seconds=LEASE_SECONDS):
                self.store.delete_tag(model.name, key)

    def _history(self, model: RegisteredModel) -> History:
        location = model.tags.get(LOCATION_TAG) or history_location(self._artifacts, model)
        if not location.startswith(f"{self._artifacts}/"):
            raise StorageError(
                f"the history of model {shown(model.name)} is in {location}, which is not under {self._artifacts}; set "
                f"ADJOBS_ARTIFACTS to {location.rpartition('/registry/')[0]}"
            )
        return self._histories.setdefault(location, History(open_store(location)))


def _announcement(record: HistoryRecord) -> str:
    return f"{record.number} {record.digest()}"


def _announced(model: RegisteredModel, records: Records) -> Records:
    """The records that announcements belong to, by number."""
    values = {value for key, value in model.tags.items() if key.startswith(INTENT_TAG)}
    numbers = {int(value.partition(" ")[0]) for value in values if re.match(r"[0-9]+ ", value)}
    candidates = [records[number - 1] for number in sorted(numbers) if 0 < number <= len(records)]
    return tuple(record for record in candidates if _announcement(record) in values)


def _differences(model: RegisteredModel, records: Records) -> tuple[AliasChange, ...]:
    """Aliases that stand for something else than the history says."""
    recorded = aliases_after(records)
    return tuple(
        AliasChange(alias, recorded[alias], model.aliases.get(alias))
        for alias in ALIASES
        if recorded[alias] != model.aliases.get(alias)
    )


def unsettled(name: str) -> RegistryError:
    """The error of a change that others forestalled too often."""
    return RegistryError(f"model {shown(name)}: its aliases change all the time; stop what moves them, and try again")
