"""When a pass is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adjobs.retraining.config import TriggerSection
from adjobs.retraining.triggers import Situation, find_due

NOW = datetime(2026, 11, 28, 21, 30, tzinfo=UTC)
QUIET = Situation(NOW, has_champion=True, champion_at=NOW - timedelta(days=10), new_labels=3)
WHEN = TriggerSection(new_labels=20, max_age="30d")


def test_find_due_names_what_is_missing():
    due = find_due(WHEN, QUIET)
    assert not due.is_due
    assert due.sentence == "not due: 3 new labels, of 20 that are needed; the champion is 10.0 days old, of 30d"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"new_labels": 20}, "20 new labels"),
        ({"champion_at": NOW - timedelta(days=31)}, "the champion is 31.0 days old"),
        ({"has_champion": False, "champion_at": None}, "no version is in force yet"),
    ],
)
def test_find_due_with_any_one_reason(change, reason):
    due = find_due(WHEN, replace(QUIET, **change))
    assert due.is_due
    assert due.sentence == f"due: {reason}"


def test_find_due_by_drift():
    when = TriggerSection.model_validate({"new_labels": None, "drift": {"images": "s3://line/recent"}})
    assert not find_due(when, QUIET).is_due
    assert find_due(when, replace(QUIET, drift="brightness fell")).sentence == "due: brightness fell"


def test_find_due_not_twice_for_the_same_inputs():
    due = find_due(WHEN, replace(QUIET, new_labels=50, same_pass=7))
    assert not due.is_due
    assert due.sentence == "not due: nothing has changed since pass 7: neither data nor champion nor settings"


@pytest.mark.parametrize(
    ("hours", "zone", "is_due"),
    [
        ("20:00-06:00", "UTC", True),
        ("06:00-20:00", "UTC", False),
        ("22:00-23:00", "Europe/Berlin", True),  # it is 22:30 there
        ("21:00-22:00", "Europe/Berlin", False),
    ],
)
def test_find_due_only_within_the_hours(hours, zone, is_due):
    when = TriggerSection(new_labels=1, hours=hours, time_zone=zone)
    assert find_due(when, QUIET).is_due is is_due


def test_find_due_of_a_retraining_without_any_reason_says_so():
    assert "names no reason" in find_due(TriggerSection(new_labels=None), QUIET).sentence


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
def test_find_due_after_a_clock_jumped_is_one_pass_at_most(jump):
    due = find_due(WHEN, replace(QUIET, now=NOW + jump, same_pass=7))
    assert not due.is_due
