"""The thresholds of a run in words, read from its ``thresholds.json``, whatever version wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from adjobs.metrics.pixel_threshold import PixelThreshold
from adjobs.metrics.threshold import Threshold

TYPES: Mapping[str, type[Threshold] | type[PixelThreshold]] = {"image": Threshold, "pixel": PixelThreshold}


class Decision(NamedTuple):
    """A threshold: whether it is for ``images`` or ``pixels``, its policy and value, and its meaning in a sentence."""

    level: str
    policy: str
    value: float
    meaning: str | None


class Change(NamedTuple):
    """A threshold that was chosen again after the training: when, by whom, the value before (None for none), and the new one."""

    time: str
    by: str
    old: float | None
    new: Decision


def decisions(thresholds: Mapping[str, Any]) -> list[Decision]:
    """The thresholds for images and for pixels, if a run has them."""
    return [_decision(level, thresholds[level]) for level in TYPES if thresholds.get(level)]


def changes(thresholds: Mapping[str, Any]) -> list[Change]:
    """The history of the thresholds."""
    return [_change(entry) for entry in thresholds.get("history") or []]


def _change(entry: Mapping[str, Any]) -> Change:
    level, old = str(entry.get("level", "image")), entry.get("old")
    new = _decision(level, entry.get("new") or {})
    return Change(str(entry.get("time", "")), str(entry.get("by", "")), None if old is None else float(old["value"]), new)


def _decision(level: str, stored: Mapping[str, Any]) -> Decision:
    """A stored threshold; without a meaning if another version stored less than the sentence needs."""
    kind = TYPES.get(level, Threshold)
    names = {field.name for field in fields(kind)}
    try:
        meaning = kind(**{name: value for name, value in stored.items() if name in names}).describe()
    except TypeError:
        meaning = None
    return Decision(f"{level}s", str(stored.get("policy", "unknown")), float(stored.get("value", "nan")), meaning)
