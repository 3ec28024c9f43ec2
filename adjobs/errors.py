"""Errors a user can cause. The command line prints them on one line and exits with status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_STOPPED = 143  # as a shell says of a process that SIGTERM ended


class AdjobsError(Exception):
    """Root of every error whose cause lies outside the program. The message says what was got, what is allowed, what to do."""


class JobError(AdjobsError):
    """The job description is wrong: an unknown key, method or format, or a value out of range."""


class DataError(AdjobsError):
    """The data set is missing, malformed, or does not hold what the job needs."""


class StorageError(AdjobsError):
    """S3 or a local folder refuses, is down, or holds something else than expected."""


class TrackingError(AdjobsError):
    """MLflow is down, or has no such run or model."""


class ClusterError(AdjobsError):
    """Ray cannot be reached or cannot give what the job asks for."""


class StackError(AdjobsError):
    """The embedded stack cannot start or stop: a port in use, a program missing, a process that died."""


class Stopped(BaseException):
    """The process was told to stop (SIGTERM, Ctrl-C); the message says how to go on."""


def one_line(error: BaseException) -> str:
    """Fold an error of another library into one line of at most 300 characters, for use inside a message of ours."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def choices(got: str, allowed: Iterable[str]) -> str:
    """Say what was allowed and what was probably meant.

    >>> choices("cod", ["cdo", "liac"])
    'have cdo, liac; did you mean cdo?'
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(got, names, n=1)
    return f"have {', '.join(names)}" + (f"; did you mean {near[0]}?" if near else "")
