"""Thresholds in words, whatever version stored them."""

from __future__ import annotations

from adjobs.reporting.decisions import Change, Decision, changes, decisions
from tests.helpers.reporting import THRESHOLD


def test_decisions_have_meaning_for_complete_thresholds_only():
    old = {"policy": "quantile", "value": 3.5}
    assert decisions({"image": {**THRESHOLD.to_dict(), "added_later": 1}, "pixel": old}) == [
        Decision("images", "max_fpr", THRESHOLD.value, THRESHOLD.describe()),
        Decision("pixels", "quantile", 3.5, None),
    ]
    assert decisions({"image": None}) == decisions({}) == []


def test_changes_have_old_value_and_new_decision():
    entry = {"time": "2026-11-23", "by": "mia", "level": "pixel", "old": None, "new": {"policy": "x", "value": 1}}
    assert changes({"history": [entry, {**entry, "level": "image", "old": {"value": 2}, "new": THRESHOLD.to_dict()}]}) == [
        Change("2026-11-23", "mia", None, Decision("pixels", "x", 1.0, None)),
        Change("2026-11-23", "mia", 2.0, Decision("images", "max_fpr", THRESHOLD.value, THRESHOLD.describe())),
    ]
    assert changes({}) == []
