"""Promotion and rollback: what is recorded, what is refused, and that nothing is ever half done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from adjobs.errors import RegistryError, StorageError, TrackingError
from adjobs.registry import journal as journal_module
from adjobs.registry.changes import promote, rollback
from adjobs.registry.journal import INTENT_TAG, Journal
from adjobs.registry.models import CHALLENGER, CHAMPION, ModelStore
from adjobs.registry.record import Action, AliasChange, GateSummary
from adjobs.storage import LocalStore
from tests.helpers.registry import click, delete_version, journal, store

__all__ = ["journal", "store"]

NAME = "line-3"


def aliases(journal: Journal) -> dict[str, int]:
    return dict(journal.store.model(NAME).aliases)


def announcements(journal: Journal) -> list[str]:
    return [key for key in journal.store.model(NAME).tags if key.startswith(INTENT_TAG)]


def test_promote_moves_the_alias_and_records_it(journal):
    promote(journal, NAME, 1)
    verdict = GateSummary("promote", "promote: all 3 checks passed")
    record = promote(journal, NAME, 3, reason="new lamp", verdict=verdict, expected=1)
    assert aliases(journal) == {CHAMPION: 3}
    assert (record.number, record.by, record.action, record.reason) == (2, "ann", Action.PROMOTE, "new lamp")
    assert record.changes == (AliasChange(CHAMPION, 1, 3),)
    state = journal.reconcile(NAME)
    assert state.records[1] == record
    assert (len(state.records), state.champion, state.completed) == (2, 3, ())
    assert announcements(journal) == []


def test_promote_the_challenger_takes_that_alias_from_it(journal):
    promote(journal, NAME, 1)
    promote(journal, NAME, 2, alias=CHALLENGER)
    assert aliases(journal) == {CHAMPION: 1, CHALLENGER: 2}
    record = promote(journal, NAME, 2)
    assert record.changes == (AliasChange(CHAMPION, 1, 2), AliasChange(CHALLENGER, 2, None))
    assert aliases(journal) == {CHAMPION: 2}


def test_rollback_returns_to_the_champion_before_and_repeated_goes_further(journal):
    for version in (1, 2, 3):
        promote(journal, NAME, version)
    assert rollback(journal, NAME, "alarms").changes == (AliasChange(CHAMPION, 3, 2),)
    assert rollback(journal, NAME).changes == (AliasChange(CHAMPION, 2, 1),)
    with pytest.raises(RegistryError, match="there is no champion before version 1; promote a version instead"):
        rollback(journal, NAME)
    assert aliases(journal) == {CHAMPION: 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("line-4", 1), r"unknown model 'line-4'; available: line-3; did you mean 'line-3'\?"),
        ((NAME, 9), "version 9 of model 'line-3' does not exist; available: 4, 3, 1"),
        ((NAME, 2), "version 2 of model 'line-3' is deleted; available: 4, 3, 1"),
        ((NAME, 1), "version 1 of model 'line-3' is the champion already; choose another version"),
    ],
)
def test_promote_refusals_are_one_line_and_change_nothing(journal, arguments, message):
    promote(journal, NAME, 1)
    delete_version(journal.store, NAME, 2)
    with pytest.raises(RegistryError, match=message):
        promote(journal, *arguments)
    assert aliases(journal) == {CHAMPION: 1}
    assert len(journal.reconcile(NAME).records) == 1


def test_promote_another_champion_than_expected_is_refused(journal):
    promote(journal, NAME, 2)
    with pytest.raises(RegistryError, match="the champion of model 'line-3' is version 2 now, not version 1: it was changed"):
        promote(journal, NAME, 3, expected=1)
    assert aliases(journal) == {CHAMPION: 2}


def test_rollback_without_a_champion_or_to_a_deleted_version_is_refused(journal):
    with pytest.raises(RegistryError, match="there is no champion before none"):
        rollback(journal, NAME)
    promote(journal, NAME, 1)
    promote(journal, NAME, 2)
    delete_version(journal.store, NAME, 1)
    with pytest.raises(RegistryError, match="the champion before, version 1, is deleted; promote another version instead"):
        rollback(journal, NAME)


# Several writers


def test_promote_two_writers_at_once_one_wins_and_both_agree_on_the_history(journal, store):
    """Both have read the same history when they want to add the next record."""
    promote(journal, NAME, 1)
    barrier, is_first = threading.Barrier(2), threading.local()

    def wait_once(state: Any, record: Any, add: Callable[..., bool] = journal.add) -> bool:
        if record.action == Action.PROMOTE and not getattr(is_first, "done", False):
            is_first.done = True
            barrier.wait(20)
        return add(state, record)

    journal.add = wait_once

    def attempt(version: int) -> str:
        try:
            promote(journal, NAME, version)
        except RegistryError as error:
            return str(error)
        return "promoted"

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(attempt, (2, 3)))
    winner = 2 + outcomes.index("promoted")
    assert f"is version {winner} now, not version 1: it was changed meanwhile" in outcomes[3 - winner]
    assert aliases(journal) == {CHAMPION: winner}
    assert [record.changes for record in journal.reconcile(NAME).records] == [
        (AliasChange(CHAMPION, None, 1),),
        (AliasChange(CHAMPION, 1, winner),),
    ]
    assert announcements(journal) == []


def test_promote_writers_of_different_aliases_both_succeed(journal):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda alias: promote(journal, NAME, 1 if alias == CHAMPION else 2, alias=alias), (CHAMPION, CHALLENGER)))
    assert aliases(journal) == {CHAMPION: 1, CHALLENGER: 2}
    assert [record.number for record in journal.reconcile(NAME).records] == [1, 2]


def test_promote_writer_that_stood_still_does_not_undo_what_came_after(journal, store, tmp_path):
    """It was about to move the alias when another command completed its change, and promoted a further version."""
    slow = Journal(SlowStore(store.uri), str(tmp_path / "artifacts"), "slow")
    slow.store.before_alias = lambda: promote(journal, NAME, 3)
    promote(slow, NAME, 2)
    assert aliases(journal) == {CHAMPION: 3}
    assert [record.by for record in journal.reconcile(NAME).records] == ["slow", "ann"]


class SlowStore(ModelStore):
    before_alias: Callable[[], object] | None = None

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        action, self.before_alias = self.before_alias, None
        if action:
            action()
        super().set_alias(name, alias, version)


# Interruptions


class Killed(BaseException):
    """Stands for kill -9: nothing of adjobs handles it."""


@contextmanager
def killed_after(writes: int) -> Iterator[None]:
    """End what runs inside after so many durable writes, if it makes as many; its handlers write nothing more, either."""
    count = 0

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            nonlocal count
            if count >= writes:
                raise Killed
            result = function(*arguments)
            count += 1
            if count >= writes:
                raise Killed
            return result

        return run

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        for owner, name in (
            (ModelStore, "set_tag"),
            (ModelStore, "delete_tag"),
            (ModelStore, "set_alias"),
            (LocalStore, "create"),
        ):
            patch.setattr(owner, name, counting(getattr(owner, name)))
        yield


@pytest.mark.parametrize("writes", range(1, 6))
@pytest.mark.parametrize("repeats", [False, True])
def test_promote_killed_after_any_write_is_completed_or_has_changed_nothing(journal, writes, repeats, monkeypatch):
    """Announcement, record, champion, challenger, announcement deleted; the next command is another one, or the same again."""
    promote(journal, NAME, 1)
    promote(journal, NAME, 2, alias=CHALLENGER)
    with killed_after(writes):
        promote(journal, NAME, 2, request_id="run-7")
    is_recorded = writes >= 2
    if repeats:
        record = promote(journal, NAME, 2, request_id="run-7")
        assert record.changes == (AliasChange(CHAMPION, 1, 2), AliasChange(CHALLENGER, 2, None))
    state = journal.reconcile(NAME)
    assert aliases(journal) == ({CHAMPION: 2} if is_recorded or repeats else {CHAMPION: 1, CHALLENGER: 2})
    assert len(state.records) == (3 if is_recorded or repeats else 2)
    assert all(record.action == Action.PROMOTE for record in state.records)
    monkeypatch.setattr(journal_module, "LEASE_SECONDS", 0)
    journal.reconcile(NAME)
    assert len(announcements(journal)) == (1 if writes == 1 and not repeats else 0)


@pytest.mark.parametrize("writes", range(1, 5))
def test_first_promote_killed_after_any_write_can_be_repeated(journal, writes):
    with killed_after(writes):
        promote(journal, NAME, 1)
    assert promote(journal, NAME, 1).number == 1
    assert aliases(journal) == {CHAMPION: 1}


def kill_rollback_of_version_3(journal):
    for version in (1, 2, 3):
        promote(journal, NAME, version)
    with killed_after(2):
        rollback(journal, NAME)


def test_rollback_killed_and_repeated_goes_back_once(journal):
    kill_rollback_of_version_3(journal)
    assert rollback(journal, NAME).changes == (AliasChange(CHAMPION, 3, 2),)
    assert aliases(journal) == {CHAMPION: 2}


def test_rollback_after_one_that_was_interrupted_and_something_else_goes_further(journal):
    kill_rollback_of_version_3(journal)
    journal.reconcile(NAME)
    promote(journal, NAME, 4)
    assert rollback(journal, NAME).changes == (AliasChange(CHAMPION, 4, 2),)


def test_promote_again_after_an_interrupted_one_and_a_rollback_is_a_new_change(journal):
    promote(journal, NAME, 1)
    with killed_after(2):
        promote(journal, NAME, 2)
    assert rollback(journal, NAME).number == 3
    assert promote(journal, NAME, 2).number == 4
    assert aliases(journal) == {CHAMPION: 2}


def test_announcement_whose_number_another_took_is_deleted(journal):
    promote(journal, NAME, 1)
    with killed_after(1):
        promote(journal, NAME, 2)
    assert len(announcements(journal)) == 1
    promote(journal, NAME, 3)
    journal.reconcile(NAME)
    assert announcements(journal) == []
    assert aliases(journal) == {CHAMPION: 3}


def test_promote_version_deleted_between_record_and_alias_is_not_called_done(journal, store, tmp_path):
    slow = Journal(SlowStore(store.uri), str(tmp_path / "artifacts"), "ann")
    promote(slow, NAME, 1)
    with killed_after(2):
        promote(slow, NAME, 2)
    delete_version(store, NAME, 2)
    state = journal.reconcile(NAME)
    assert aliases(journal) == {CHAMPION: 1}
    assert [(record.action, record.changes[0].after) for record in state.records[1:]] == [
        (Action.PROMOTE, 2),
        (Action.OUTSIDE, 1),
    ]
    assert state.records[2].reason == "version 2 was deleted"


def test_promote_storage_down_changes_nothing(journal, monkeypatch):
    promote(journal, NAME, 1)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "create", raising(StorageError("nothing listens at http://s3")))
        with pytest.raises(StorageError, match="nothing listens"):
            promote(journal, NAME, 2)
    assert (aliases(journal), announcements(journal)) == ({CHAMPION: 1}, [])
    assert len(journal.reconcile(NAME).records) == 1


def test_promote_refused_by_mlflow_leaves_no_record(journal, monkeypatch):
    promote(journal, NAME, 1)
    with monkeypatch.context() as patch:
        patch.setattr(ModelStore, "set_tag", raising(TrackingError("'bob' may not do this")))
        with pytest.raises(TrackingError, match="'bob' may not do this"):
            promote(journal, NAME, 2)
    assert len(journal.reconcile(NAME).records) == 1


def test_promote_mlflow_down_in_the_middle_is_completed_by_the_next_command(journal, monkeypatch):
    promote(journal, NAME, 1)
    with monkeypatch.context() as patch:
        patch.setattr(ModelStore, "set_alias", raising(TrackingError("MLflow at x: no answer")))
        with pytest.raises(
            RegistryError, match=r"record 2 \(champion 1 -> 2\) .* is not carried out in full: MLflow at x: no answer; the"
        ):
            promote(journal, NAME, 2)
    assert journal.reconcile(NAME).champion == 2


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


# Changes outside adjobs


def test_reconcile_records_a_click_in_mlflow_with_what_is_known_of_it(journal):
    promote(journal, NAME, 1)
    click(journal.store, NAME, CHAMPION, 3)
    click(journal.store, NAME, CHALLENGER, 4)
    state = journal.reconcile(NAME)
    record = state.records[1]
    assert (record.action, record.by, record.not_before) == (Action.OUTSIDE, "ann", state.records[0].at)
    assert record.changes == (AliasChange(CHAMPION, 1, 3), AliasChange(CHALLENGER, None, 4))
    assert journal.reconcile(NAME).records == state.records
    assert rollback(journal, NAME).changes == (AliasChange(CHAMPION, 3, 1),)


def test_reconcile_records_that_the_champion_was_deleted(journal):
    promote(journal, NAME, 1)
    delete_version(journal.store, NAME, 1)
    record = journal.reconcile(NAME).records[1]
    assert (record.changes, record.reason) == ((AliasChange(CHAMPION, 1, None),), "version 1 was deleted")


def test_reconcile_by_several_at_once_records_a_click_once(journal):
    promote(journal, NAME, 1)
    click(journal.store, NAME, CHAMPION, 3)
    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(lambda _: journal.reconcile(NAME), range(4)))
    assert {len(state.records) for state in states} == {2}


def test_record_that_was_not_announced_moves_nothing(journal):
    """Who may write to the storage, as every job may, does not decide what is in force."""
    promote(journal, NAME, 1)
    state = journal.inspect(NAME)
    forged = journal.record(state.records, Action.PROMOTE, (AliasChange(CHAMPION, 1, 4),))
    assert journal._history(state.model).append(state.records, forged)
    records = journal.reconcile(NAME).records
    assert aliases(journal) == {CHAMPION: 1}
    assert records[-1].changes == (AliasChange(CHAMPION, 4, 1),)


def test_journal_history_elsewhere_is_refused(journal, store, tmp_path):
    promote(journal, NAME, 1)
    other = Journal(store, str(tmp_path / "other"), "bob")
    with pytest.raises(
        StorageError, match=rf"which is not under {tmp_path}/other; set ADJOBS_ARTIFACTS to {tmp_path}/artifacts$"
    ):
        other.reconcile(NAME)
