"""Errors a user can cause. The command line prints them on one line and exits with status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_STOPPED = 143  # what a shell reports for a process that SIGTERM ended


class AdjobsError(Exception):
    """Base of every error whose cause lies outside the program. The message says what was got, what is allowed, what to do."""


class JobError(AdjobsError):
    """The job file is wrong: an unknown key, method or format, or a value out of range."""


class DataError(AdjobsError):
    """The data set is missing, malformed, or does not hold what the job needs."""


class StorageError(AdjobsError):
    """S3 or a local folder refuses access, cannot be reached, or holds something unexpected."""


class TrackingError(AdjobsError):
    """MLflow cannot be reached, or has no such run or model."""


class ClusterError(AdjobsError):
    """Ray cannot be reached or does not have what the job needs."""


class StackError(AdjobsError):
    """The embedded stack cannot start or stop: a port is in use, a program is missing, a process exited."""


class Stopped(BaseException):
    """The process was asked to stop (SIGTERM, Ctrl-C); the message says how to resume."""


def one_line(error: BaseException) -> str:
    """Fold an error of another library into one line of at most 300 characters, for use inside a message of ours."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def choices(name: str, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown name: what is available and what was probably meant.

    >>> choices("cod", ["cdo", "liac"])
    "available: cdo, liac; did you mean 'cdo'?"
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    return f"available: {', '.join(names)}" + (f"; did you mean '{close[0]}'?" if close else "")
