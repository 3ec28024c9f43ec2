"""Errors a user can cause. The command line prints them on one line and exits with status 2."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

# Also what stands for bytes of file names that are not UTF-8: not every terminal's encoding can write it.
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_MAX_PROBLEMS_LENGTH = 750
_MAX_NAMES_LENGTH = 450
_MAX_LENGTH_WITH_GUESS = 200


class AdjobsError(Exception):
    """Base of every error whose cause lies outside the program. The message says what was got, what is allowed, what to do.

    It is always one line, whatever is in the file names and values that it quotes.
    """

    def __str__(self) -> str:
        """The message on one line."""
        return printable(super().__str__())


class JobError(AdjobsError):
    """The job file is wrong: an unknown key, method or format, or a value out of range."""


class DataError(AdjobsError):
    """The data set is missing, malformed, or does not hold what the job needs."""


class StorageError(AdjobsError):
    """S3 or a local folder refuses access, cannot be reached, or holds something unexpected."""


class DamagedError(StorageError):
    """An object is not what it must be; reading it again does not help."""


class TrackingError(AdjobsError):
    """MLflow cannot be reached, or has no such run or model."""


class RegistryError(AdjobsError):
    """The registry refuses: no such model or version, or an alias cannot be moved as requested."""


class ClusterError(AdjobsError):
    """Ray cannot be reached or does not have what the job needs."""


class RefusedError(ClusterError):
    """Ray answers, and does not accept a job."""


class QueueError(AdjobsError):
    """The queue refuses, or cannot be reached."""


class QueueUnavailableError(QueueError):
    """The queue does not answer, or cannot answer now; a later request may succeed."""


class ScheduleError(AdjobsError):
    """A schedule is wrong: its cron expression, or its time zone."""


class LabelStudioError(AdjobsError):
    """Label Studio refuses, or cannot be reached."""


class LabelStudioUnavailableError(LabelStudioError):
    """Label Studio does not answer, or cannot answer now; a later request may succeed."""


class ServerError(AdjobsError):
    """A service cannot answer: its port, its certificate or the file with its keys cannot be used."""


class SupersededError(AdjobsError):
    """A later attempt of the same job has begun, and this one must write nothing more."""


class QueueDatabaseError(QueueError):
    """The queue's database cannot be reached, or has no space."""


class StackError(AdjobsError):
    """The embedded stack cannot start or stop: a port is in use, a program is missing, a process exited."""


class Stopped(BaseException):
    """The process was asked to stop (SIGTERM, Ctrl-C); the message says how to resume."""


def printable(text: str) -> str:
    r"""A name or message without line breaks and control characters, which could also change a terminal.

    >>> printable("a\nb.png")
    'a b.png'
    """
    return _CONTROL_CHARACTERS.sub(" ", text)


def one_line(error: BaseException) -> str:
    """Fold an error of another library into one line of at most 300 characters, for use inside a message of ours."""
    return shorten(str(error), 300) or type(error).__name__


def shorten(text: str, limit: int = 200) -> str:
    """A text on one line of at most ``limit`` characters, for use inside a message."""
    text = " ".join(text[: 10 * limit].split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def shown(value: object) -> str:
    """A user's value as Python writes it, on one line of at most 200 characters.

    >>> shown("cod")
    "'cod'"
    """
    try:
        return shorten(repr(value))
    except ValueError:  # Python does not write integers of more than 4300 digits
        return f"a very long {type(value).__name__}"


def join_problems(problems: Sequence[str]) -> str:
    """Several problems as one line of at most about 800 characters; the last ones are counted only when they do not fit.

    >>> join_problems(["data.uri: missing", "method: missing"])
    'data.uri: missing; method: missing'
    """
    unique = [shorten(problem, _MAX_PROBLEMS_LENGTH) for problem in dict.fromkeys(problems)]
    count = 1
    while count < len(unique) and len("; ".join(unique[: count + 1])) <= _MAX_PROBLEMS_LENGTH:
        count += 1
    rest = len(unique) - count
    return "; ".join([*unique[:count], *([f"and {rest} more; fix these first"] if rest else [])])


def choices(name: str, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown name: what is available and what was probably meant; of long lists only the latter.

    >>> choices("cod", ["cdo", "liac"])
    "available: cdo, liac; did you mean 'cdo'?"
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(name[:100], names, n=1)
    guess = f"did you mean '{close[0]}'?" if close else ""
    listing = ", ".join(names)
    if guess and len(listing) > _MAX_LENGTH_WITH_GUESS:
        return guess
    text = f"available: {shorten(listing, _MAX_NAMES_LENGTH)}"
    return f"{text}; {guess}" if guess else text
