"""Is a pass due? Facts in, a decision with its reasons out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from adjobs.retraining.config import TriggerSection


@dataclass(frozen=True)
class Situation:
    """What is known when a pass may start.

    Attributes:
        now: with a zone.
        has_champion: whether a version is in force.
        champion_at: when it came into force; None: unknown, or there is none.
        new_labels: labelled images that it has not been trained or tested on.
        drift: what the check of recent images says; None: not checked, or no drift was shown.
        same_pass: number of the last pass, if it was started with these very data, champion and settings; else None.
    """

    now: datetime
    has_champion: bool
    champion_at: datetime | None
    new_labels: int
    drift: str | None = None
    same_pass: int | None = None


@dataclass(frozen=True)
class Due:
    """Whether a pass is due.

    Attributes:
        reasons: for it.
        obstacles: against it; with one it is not due, whatever the reasons.
    """

    reasons: tuple[str, ...]
    obstacles: tuple[str, ...]

    @property
    def is_due(self) -> bool:
        """Whether a pass starts."""
        return bool(self.reasons) and not self.obstacles

    @property
    def sentence(self) -> str:
        """In words."""
        if self.is_due:
            return f"due: {'; '.join(self.reasons)}"
        return f"not due: {'; '.join(self.obstacles)}"


def find_due(when: TriggerSection, situation: Situation) -> Due:
    """Decide whether a pass is due.

    Args:
        when: what the retraining says.
        situation: the facts.
    """
    reasons, missing = _reasons(when, situation)
    obstacles = []
    if not when.allow(situation.now):
        obstacles.append(outside_hours(when))
    if situation.same_pass is not None:
        obstacles.append(f"nothing has changed since pass {situation.same_pass}: neither data nor champion nor settings")
    if not reasons:
        obstacles += missing
    return Due(tuple(reasons), tuple(obstacles))


def outside_hours(when: TriggerSection) -> str:
    """What is said of a call outside the hours, in which nothing else is looked at."""
    return f"it is outside the hours {when.hours} ({when.time_zone})"


def _reasons(when: TriggerSection, situation: Situation) -> tuple[list[str], list[str]]:
    """Why a pass is due, and what is missing for the other reasons."""
    if not situation.has_champion:
        return ["no version is in force yet"], []
    reasons, missing = [], []
    if when.new_labels is not None:
        count = f"{situation.new_labels} new labels"
        if situation.new_labels >= when.new_labels:
            reasons.append(count)
        else:
            missing.append(f"{count}, of {when.new_labels} that are needed")
    if when.max_age_s is not None and situation.champion_at is not None:
        age = (situation.now - situation.champion_at).total_seconds()
        text = f"the champion is {max(age, 0) / 86400:.1f} days old"
        if age >= when.max_age_s:
            reasons.append(text)
        else:
            missing.append(f"{text}, of {when.max_age}")
    if when.drift is not None:
        if situation.drift is not None:
            reasons.append(situation.drift)
        else:
            missing.append("no drift was shown")
    return reasons, missing or ["the retraining names no reason: new_labels, max_age and drift are null"]
