"""Which version was in force when, and to which a rollback returns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from adjobs.registry.record import Action, AliasChange, HistoryRecord
from adjobs.registry.timeline import aliases_after, former_champions, in_force, periods

START = datetime(2026, 11, 1, tzinfo=UTC)
PUT, BACK, CLICK = Action.PROMOTE, Action.ROLLBACK, Action.OUTSIDE


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def history(*steps: tuple[float, Action, int | None]) -> list[HistoryRecord]:
    """Records of champions by day, each of which was noticed half a day late where it was made outside."""
    records: list[HistoryRecord] = []
    before = None
    for at, action, after in steps:
        not_before = day(at - 0.5) if action == CLICK else None
        change = (AliasChange("champion", before, after),)
        records.append(HistoryRecord(len(records) + 1, day(at), "ann", action, change, not_before=not_before))
        before = after
    return records


@pytest.mark.parametrize(
    ("at", "versions"), [(0.5, []), (1, [1]), (1.9, [1]), (2, [2]), (2.9, [2]), (3.6, [2, 3]), (4, [3]), (5, [None]), (9, [None])]
)
def test_in_force_at_a_moment(at, versions):
    """Version 3 was set by a click between days 3.5 and 4."""
    records = history((1, PUT, 1), (2, PUT, 2), (4, CLICK, 3), (5, PUT, None))
    assert [period.version for period in in_force(records, day(at), day(at))] == versions


def test_in_force_on_a_day_lists_all_of_that_day():
    records = history((1.2, PUT, 1), (2.1, PUT, 2), (2.2, BACK, 1), (3.5, PUT, 4))
    assert [period.version for period in in_force(records, day(2), day(3))] == [1, 2, 1]


def test_periods_of_a_clock_that_jumped_follow_the_order_of_records():
    records = history((1, PUT, 1), (90, PUT, 2), (2, PUT, 3), (3, PUT, 4))
    assert [(period.version, period.start, period.end) for period in periods(records)] == [
        (1, day(1), day(2)),
        (3, day(2), day(3)),
        (4, day(3), None),
    ]


def test_aliases_after_is_the_last_change_of_each():
    assert aliases_after([]) == {"champion": None, "challenger": None}
    assert aliases_after(history((1, PUT, 1), (2, PUT, 2))) == {"champion": 2, "challenger": None}


@pytest.mark.parametrize(
    ("steps", "former"),
    [
        ([], []),
        ([(PUT, 1)], []),
        ([(PUT, 1), (PUT, 2), (PUT, 3)], [2, 1]),
        ([(PUT, 1), (PUT, 2), (BACK, 1)], []),
        ([(PUT, 1), (PUT, 2), (PUT, 3), (BACK, 2)], [1]),
        ([(PUT, 1), (PUT, 2), (BACK, 1), (PUT, 3)], [1]),
        ([(PUT, 1), (CLICK, 2), (PUT, 3)], [2, 1]),
        ([(PUT, 1), (CLICK, None)], [1]),
        ([(PUT, 1), (PUT, 2), (CLICK, None), (BACK, 2)], [1]),
        ([(PUT, 1), (PUT, 2), (PUT, 1)], [2, 1]),
    ],
)
def test_former_champions(steps, former):
    records = history(*((number, *step) for number, step in enumerate(steps)))
    assert former_champions(records) == former
