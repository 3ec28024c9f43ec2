"""What all verbs share: ``--json``, ``--debug``, the log on standard error, and errors on one line with exit status 2."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import click

from adjobs.cli.signals import unwind_on_signals
from adjobs.errors import AdjobsError, Stopped, StorageError, printable
from adjobs.logs import RunFormatter

EXIT_PROBLEMS = 1  # the work was done and it found problems
EXIT_USAGE = 2  # the work could not be done


@runtime_checkable
class Result(Protocol):
    """A result that knows its JSON."""

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""


VerbResult = tuple[Result | dict[str, Any], str] | tuple[Result | dict[str, Any], str, int]


def verb(function: Callable[..., VerbResult]) -> Callable[..., None]:
    """Add ``--json`` and ``--debug`` to a click callback, show its log on standard error and turn its errors into one line.

    The callback returns ``(result, text)`` or ``(result, text, exit status)``: with ``--json`` the result is printed as one JSON
    object on standard output, otherwise the text is. Progress belongs on standard error.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output and nothing else there.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, debug: bool, **kwargs: Any) -> None:
        with unwind_on_signals() as stop:
            try:
                # Some libraries print to standard output, which is reserved for the result.
                with contextlib.redirect_stdout(sys.stderr), log_to_stderr():
                    result, text, *exit_status = function(*args, **kwargs)
            except AdjobsError as error:
                fail(error, as_json=as_json, debug=debug)
            except (OSError, MemoryError) as error:
                fail(_machine_error(error), as_json=as_json, debug=debug)
            except (Stopped, KeyboardInterrupt) as stopped:
                message = str(stopped) or "stopped"
                click.echo(message, err=True)
                stop.is_reported = True
                if as_json:
                    click.echo(to_json({"error": message}))
                sys.exit(stop.exit_status)
            click.echo(to_json(result.to_dict() if isinstance(result, Result) else result) if as_json else text)
            sys.exit(exit_status[0] if exit_status else 0)

    return run


def _machine_error(error: OSError | MemoryError) -> AdjobsError:
    """What the machine refuses, where nothing more is known about it."""
    if isinstance(error, OSError):
        path = f"{error.filename}: " if error.filename else ""
        converted = StorageError(f"{path}{error.strerror or error}; check the path, its permissions and the free space")
    else:
        converted = StorageError("not enough memory; end other programs, or use smaller batches or images")
    converted.__cause__ = error
    return converted


class _StderrHandler(logging.Handler):
    """One line for each record on the standard error of the moment; a logging.StreamHandler would keep that of its creation."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record on a line of its own, on a terminal above the progress bars."""
        from tqdm import tqdm

        is_terminal = sys.stderr.isatty()
        start = "\n" if getattr(tqdm, "_instances", ()) and not is_terminal else ""  # a bar in a log file has no end of line
        with tqdm.external_write_mode(sys.stderr) if is_terminal else contextlib.nullcontext():
            click.echo(start + self.format(record), err=True)


@contextlib.contextmanager
def log_to_stderr(level: int = logging.INFO) -> Iterator[None]:
    """Show what adjobs logs on standard error, and nowhere else, while a verb runs."""
    logger, handler = logging.getLogger("adjobs"), _StderrHandler()
    handler.setFormatter(RunFormatter())
    previous = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False  # libraries add handlers to the root, which would print every line again
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = previous


def fail(error: AdjobsError, *, as_json: bool, debug: bool) -> None:
    """Print an error and exit with status 2."""
    if debug:
        traceback.print_exception(error)
    click.echo(f"error: {error}", err=True)
    if as_json:
        click.echo(to_json({"error": str(error)}))
    sys.exit(EXIT_USAGE)


def to_json(result: object) -> str:
    """One line of strict JSON: numbers that JSON cannot hold become null."""
    return json.dumps(_finite(result), allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(rows: list[list[str]], header: list[str]) -> str:
    """Left-aligned columns under a header; each row is one line, whatever is in its cells.

    >>> print(table([["cdo", "none"]], ["method", "labels"]))
    method  labels
    cdo     none
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [header, *rows]]
    return "\n".join(lines)
