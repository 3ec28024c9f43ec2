"""Passes and schedules as text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from adjobs.cli.output import table
from adjobs.errors import ScheduleError, shown

if TYPE_CHECKING:
    from adjobs.retraining.result import RetrainResult


def describe(result: RetrainResult) -> str:
    """A pass for a person."""
    lines = [f"model     {result.model}", f"state     {result.state}", f"          {result.sentence}"]
    if result.taken_in is not None:
        lines.append(f"inbox     {result.taken_in.sentence}")
    if result.version is not None:
        lines.append(f"version   {result.model}/{result.version}, run {result.run_id}")
    return "\n".join(lines)


def check_name(name: str) -> str:
    """The name of a schedule, if it can be one.

    Raises:
        ScheduleError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ScheduleError(f"--name {shown(name)}: allowed are up to 100 letters, digits and . _ -; choose another name")
    return name


def name_of(model: str) -> str:
    """A name for the schedule of a model, whatever that is called.

    >>> name_of("line 3: bolts")
    'line-3--bolts'
    """
    return re.sub(r"[^A-Za-z0-9._-]", "-", model).lstrip("-._")[:100] or "retraining"


def saved(schedule: Mapping[str, Any], *, is_local_zone: bool) -> str:
    """A schedule that was added or replaced."""
    state = "is replaced" if schedule["replaced"] else "is added"
    zone = f"{schedule['time_zone']} (the time zone of this machine)" if is_local_zone else schedule["time_zone"]
    return "\n".join(
        [
            f"schedule {schedule['name']} {state}: it retrains {schedule['model']}",
            f"cron      {schedule['cron']}, time zone {zone}",
            f"next      {next_text(schedule)}",
        ]
    )


def next_text(schedule: Mapping[str, Any]) -> str:
    """When a schedule is due, in its zone and, if that differs, on this machine."""
    if schedule["next_at"] is None:
        return "-"
    in_zone, local = _times(schedule)
    return in_zone if in_zone == local else f"{in_zone}, which is {local} on this machine"


def listing(schedules: Sequence[Mapping[str, Any]]) -> str:
    """One line for each schedule."""
    if not schedules:
        return 'no schedules; add one with: adjobs retrain schedule retrain.yaml --cron "0 2 * * *"'
    header = ["schedule", "model", "cron", "time zone", "next, in its zone", "next, local", "last run", "job", "state", "reason"]
    return table([_row(schedule) for schedule in schedules], header)


def _row(schedule: Mapping[str, Any]) -> list[str]:
    in_zone, local = _times(schedule) if schedule["next_at"] is not None else ("-", "-")
    return [
        schedule["name"],
        schedule["model"],
        schedule["cron"],
        schedule["time_zone"],
        "paused" if schedule["paused"] else in_zone,
        local,
        "-" if schedule["last_at"] is None else f"{datetime.fromtimestamp(schedule['last_at']):%Y-%m-%d %H:%M}",
        schedule["last_job"] or "-",
        schedule["last_state"] or "-",
        schedule["reason"] or "-",
    ]


def _times(schedule: Mapping[str, Any]) -> tuple[str, str]:
    """When it is due, in its time zone and in that of this machine."""
    local = datetime.fromtimestamp(schedule["next_at"]).astimezone()
    try:
        in_zone = local.astimezone(ZoneInfo(schedule["time_zone"]))
    except (LookupError, ValueError, OSError):  # a zone that the queue's machine knows, and this one does not
        in_zone = local
    return f"{in_zone:%Y-%m-%d %H:%M %Z}", f"{local:%Y-%m-%d %H:%M %Z}"
