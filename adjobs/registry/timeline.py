"""What a history says: which version was in force when, and which one before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adjobs.registry.models import ALIASES, CHAMPION
from adjobs.registry.record import Action, HistoryRecord


@dataclass(frozen=True)
class Period:
    """A time in which an alias stood for one version.

    Attributes:
        version: None: for none.
        start: when it was set or, if that was outside adjobs, noticed; in UTC.
        end: when the next was; None: it is the present one.
        not_before: of a change outside adjobs: it was made between then and ``start``; else None.
        record: number of the record of its start.
    """

    version: int | None
    start: datetime
    end: datetime | None
    not_before: datetime | None
    record: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        times = {"start": self.start, "end": self.end, "not_before": self.not_before}
        texts = {name: None if time is None else time.isoformat() for name, time in times.items()}
        return {"version": self.version, **texts, "record": self.record}


def aliases_after(records: Sequence[HistoryRecord]) -> dict[str, int | None]:
    """The version of each recorded alias after the last record; None: of none."""
    aliases: dict[str, int | None] = dict.fromkeys(ALIASES)
    for record in records:
        aliases |= {change.alias: change.after for change in record.changes}
    return aliases


def periods(records: Sequence[HistoryRecord], alias: str = CHAMPION) -> list[Period]:
    """The times of an alias, the first one first.

    A later record always ends the time of an earlier one, also where a clock was wrong and gave it an earlier time.
    """
    changed = [(record, change) for record in records if (change := record.change_of(alias)) is not None]
    times: list[Period] = []
    end: datetime | None = None
    for record, change in reversed(changed):
        if end is None or record.at < end:
            times.append(Period(change.after, record.at, end, record.not_before, record.number))
            end = record.at
    return times[::-1]


def in_force(records: Sequence[HistoryRecord], start: datetime, end: datetime, alias: str = CHAMPION) -> list[Period]:
    """The times that overlap one from ``start`` to ``end``, both included.

    A change outside adjobs counts from the earliest moment at which it may have been made, what it ended until the latest.
    """
    return [
        period
        for period in periods(records, alias)
        if (period.not_before or period.start) <= end and (period.end is None or period.end > start)
    ]


def former_champions(records: Sequence[HistoryRecord]) -> list[int]:
    """Champions to which a rollback may return, the last one first: those that were not rolled back themselves."""
    stack: list[int | None] = []
    for record in records:
        change = record.change_of(CHAMPION)
        if change is None:
            continue
        if record.action == Action.ROLLBACK:
            while stack and stack[-1] != change.after:
                stack.pop()
        if not stack or stack[-1] != change.after:
            stack.append(change.after)
    return [version for version in reversed(stack[:-1]) if version is not None]
