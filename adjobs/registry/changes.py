"""Promotion of a version to champion or challenger, and its rollback."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict, Unpack

from adjobs.errors import RegistryError, shown
from adjobs.registry.journal import ATTEMPTS, Journal, ModelState, unsettled
from adjobs.registry.models import CHALLENGER, CHAMPION
from adjobs.registry.record import Action, AliasChange, GateSummary, HistoryRecord
from adjobs.registry.timeline import former_champions

Plan = Callable[[ModelState], tuple[AliasChange, ...]]
"""The changes to make in a state; raises RegistryError where there are none."""


class Justification(TypedDict, total=False):
    """What the history keeps of why a version was promoted; all may be left out.

    Attributes:
        reason: in words.
        verdict: of the gate.
        request_id: for programs that may be killed and run again: a change that was made with this id is not made again.
    """

    reason: str
    verdict: GateSummary | None
    request_id: str


def promote(
    journal: Journal,
    name: str,
    version: int,
    *,
    alias: str = CHAMPION,
    expected: int | None = None,
    **why: Unpack[Justification],
) -> HistoryRecord:
    """Let an alias stand for a version. A challenger that becomes champion is a challenger no more.

    Args:
        journal: of the registry.
        name: of the model.
        version: of the model.
        alias: champion or challenger.
        expected: the version that the alias must stand for now, such as that which the gate compared; None: whichever.
        **why: see `Justification`.

    Returns:
        Its record; that of the first time, if it was requested with this id before, or was interrupted.
    """
    state = journal.reconcile(name)
    for record in state.records:
        if record.request_id and record.request_id == why.get("request_id"):
            return record
    if (interrupted := completed_promotion(journal, state, version, alias)) is not None:
        return interrupted
    journal.store.version(state.model, version)
    before = state.model.aliases.get(alias) if expected is None else expected

    def plan(state: ModelState) -> tuple[AliasChange, ...]:
        current = state.model.aliases.get(alias)
        if current == version:
            raise RegistryError(f"version {version} of model {shown(name)} is the {alias} already; choose another version")
        _ensure_unchanged(name, alias, current, before)
        moved = AliasChange(alias, current, version)
        if alias == CHAMPION and state.model.aliases.get(CHALLENGER) == version:
            return (moved, AliasChange(CHALLENGER, version, None))
        return (moved,)

    return _change(journal, state, Action.PROMOTE, plan, **why)


def completed_promotion(journal: Journal, state: ModelState, version: int, alias: str) -> HistoryRecord | None:
    """The same promotion by the same user, if it was interrupted a short while ago and is complete now."""
    if state.model.aliases.get(alias) != version:
        return None
    for record in state.completed:
        change = record.change_of(alias)
        if (record.action, record.by) == (Action.PROMOTE, journal.user) and change is not None and change.after == version:
            return record
    return None


def rollback(journal: Journal, name: str, reason: str = "") -> HistoryRecord:
    """Let the champion be the one before. Repeated, it goes back further.

    Returns:
        Its record; that of an interrupted rollback, if the user has tried it before.
    """
    state = journal.reconcile(name)
    for record in state.completed:
        if (record.action, record.by, record.number) == (Action.ROLLBACK, journal.user, len(state.records)):
            return record
    before, former = state.champion, former_champions(state.records)
    if not former:
        raise RegistryError(f"model {shown(name)}: there is no champion before {_named(before)}; promote a version instead")
    if not journal.store.has_version(name, former[0]):
        raise RegistryError(
            f"model {shown(name)}: the champion before, version {former[0]}, is deleted; promote another version instead"
        )

    def plan(state: ModelState) -> tuple[AliasChange, ...]:
        _ensure_unchanged(name, CHAMPION, state.champion, before)
        return (AliasChange(CHAMPION, before, former[0]),)

    return _change(journal, state, Action.ROLLBACK, plan, reason=reason)


def _change(journal: Journal, state: ModelState, action: Action, plan: Plan, **why: Unpack[Justification]) -> HistoryRecord:
    """Record and make the changes that are planned; with every record of another writer they are planned again."""
    name = state.model.name
    for _ in range(ATTEMPTS):
        record = journal.record(state.records, action, plan(state), **why)
        if journal.add(state, record):
            _ensure_made(journal, name, record)
            return record
        state = journal.reconcile(name)
    raise unsettled(name)


def _ensure_made(journal: Journal, name: str, record: HistoryRecord) -> None:
    """Refuse to call a change made that was not, because its version was deleted or something else moved the alias."""
    change, model = record.changes[0], journal.store.model(name)
    if model.aliases.get(change.alias) != change.after and not journal.has_later(model, record):
        state = journal.reconcile(name)
        current = _named(state.model.aliases.get(change.alias))
        problem = "something else moved it, or the version was deleted"
        raise RegistryError(
            f"model {shown(name)}: {change.alias} is {current}, not {_named(change.after)}: {problem}; read its history"
        )


def _ensure_unchanged(name: str, alias: str, current: int | None, expected: int | None) -> None:
    if current != expected:
        raise RegistryError(
            f"the {alias} of model {shown(name)} is {_named(current)} now, not {_named(expected)}: it was changed meanwhile; "
            "compare again, then promote"
        )


def _named(version: int | None) -> str:
    return "none" if version is None else f"version {version}"
