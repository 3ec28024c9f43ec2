"""When a schedule is due: cron expressions in time zones. Times are whole seconds since the epoch.

A fixed time that a day does not have, since clocks are set forward then, comes at the end of the missing hour; one that a day has
twice comes the first time only. Expressions with ``*`` in minute or hour go on through both hours.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from adjobs.errors import ScheduleError, choices, shown

MAX_LENGTH = 200
"""Characters of an expression."""

FIELDS = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31 or L",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT",
}
"""The fields of an expression, and what each allows beside * , - and /."""

_EXAMPLES = "'0 2 * * *' (every day at 02:00) or '30 18 * * MON-FRI'"
_ZONEINFO = "zoneinfo/"


def check_cron(cron: str) -> None:
    """Refuse an expression that is wrong, or that never comes.

    Raises:
        ScheduleError: says what is allowed.
    """
    fields = cron.split()
    if len(fields) != len(FIELDS):
        names = ", ".join(FIELDS).replace("-", " ")
        raise ScheduleError(f"cron {shown(cron)}: got {len(fields)} fields; must be five ({names}), such as {_EXAMPLES}")
    if len(cron) > MAX_LENGTH:
        raise ScheduleError(f"cron {shown(cron)}: got {len(cron)} characters; must be at most {MAX_LENGTH}")
    for number, (name, allowed) in enumerate(FIELDS.items()):
        alone = " ".join(field if place == number else "*" for place, field in enumerate(fields))
        if not _is_parsed(alone):
            problem = f"got {shown(fields[number])} as {name.replace('-', ' ')}; allowed are {allowed}, with * , - and /"
            raise ScheduleError(f"cron {shown(cron)}: {problem}; such as {_EXAMPLES}")
    if not _is_parsed(cron) or next_after(cron, "UTC", 0) is None:
        raise ScheduleError(f"cron {shown(cron)}: no month has such a day; choose another, such as {_EXAMPLES}")


def check_time_zone(name: str) -> None:
    """Refuse the name of a time zone that is not in the IANA database.

    Raises:
        ScheduleError: suggests another.
    """
    zones = available_timezones()
    if name not in zones:
        hint = choices(name, zones)
        hint = hint if hint.startswith("did you mean") else "use a name of the IANA database, such as Europe/Berlin"
        raise ScheduleError(f"unknown time zone {shown(name)}; {hint}")


@lru_cache(4096)
def next_after(cron: str, time_zone: str, after: int) -> int | None:
    """The first time of a schedule after a time; None if it never comes.

    Raises:
        ScheduleError: the expression is wrong, or this machine does not know the time zone.
    """
    try:
        for moment in CronSim(cron, datetime.fromtimestamp(after, ZoneInfo(time_zone))):
            seconds = int(moment.timestamp())
            if seconds > after:  # CronSim takes a time that a day has twice for the first, which may be over
                return seconds
    except CronSimError as error:
        raise ScheduleError(f"cron {shown(cron)}: {error}; replace the schedule") from error
    except (LookupError, ValueError, OSError, OverflowError) as error:
        problem = "this machine does not know the time zone, or no such time"
        raise ScheduleError(f"cron {shown(cron)} in {shown(time_zone)}: {problem}; install tzdata") from error
    return None


def newest(cron: str, time_zone: str, after: float, until: float) -> int | None:
    """The last time of a schedule after a time, and not later than another; None if there is none.

    Whatever the number of times between them, it takes the logarithm of the seconds between them.

    Raises:
        ScheduleError: as :func:`next_after`.
    """

    def comes(start: int) -> int | None:
        moment = next_after(cron, time_zone, start)
        return moment if moment is not None and moment <= until else None

    low, high = int(after), int(until)
    if comes(low) is None:
        return None
    while high - low > 1:  # one comes after low, and none after high
        middle = (low + high) // 2
        low, high = (low, middle) if comes(middle) is None else (middle, high)
    return comes(low)


def local_time_zone(environment: Mapping[str, str] = os.environ, root: Path = Path("/etc")) -> str:
    """The IANA name of this machine's time zone; UTC if it cannot be known.

    Args:
        environment: may have it as ``TZ``.
        root: folder of ``timezone`` and ``localtime``.
    """
    zones = available_timezones()
    candidates = [environment.get("TZ", "").removeprefix(":")]
    with contextlib.suppress(OSError):
        candidates.append(str((root / "localtime").resolve(strict=True)).rpartition(_ZONEINFO)[2])
    with contextlib.suppress(OSError, UnicodeDecodeError):
        candidates.append((root / "timezone").read_text().strip())
    return next((name for name in candidates if name in zones), "UTC")


def _is_parsed(cron: str) -> bool:
    try:
        CronSim(cron, datetime(2000, 1, 1))
    except (CronSimError, ValueError):
        return False
    return True
