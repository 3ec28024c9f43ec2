"""Durations as people write them."""

from __future__ import annotations

import re

MAX_SECONDS = 1e9
HINT = "give a positive number with a unit, such as 90s, 45m, 2h or 1d"
_SECONDS_IN = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def to_seconds(text: str) -> float | None:
    """Seconds of a duration such as ``90s``, ``45m``, ``2h`` or ``1.5d``; None if it is not a positive number with a unit.

    >>> to_seconds("1.5h")
    5400.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    seconds = float(match[1]) * _SECONDS_IN[match[2]] if match else 0.0
    return seconds if 0 < seconds <= MAX_SECONDS else None
