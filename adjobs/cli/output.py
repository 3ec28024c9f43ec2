"""What every verb shares: ``--json``, ``--debug``, and errors on one line with exit status 2."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from adjobs.errors import EXIT_STOPPED, AdjobsError, Stopped, StorageError

EXIT_PROBLEMS = 1  # the work was done and something in it was found wrong
EXIT_USAGE = 2  # the work could not be done


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` and ``--debug`` to a click callback and turn its errors into one line.

    The callback returns ``(result, text)`` or ``(result, text, exit status)``: with ``--json`` the
    result is printed as one JSON object on standard output, otherwise the text is. Progress belongs on standard error.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output and nothing else there.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, debug: bool, **kwargs: Any) -> None:
        try:
            # Libraries greet people on standard output; there, only the result may stand.
            with contextlib.redirect_stdout(sys.stderr):
                result, text, *status = function(*args, **kwargs)
        except AdjobsError as error:
            fail(error, as_json=as_json, debug=debug)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            fail(
                StorageError(f"{where}{error.strerror or error}; check the place, its owner and its space"),
                as_json=as_json,
                debug=debug,
            )
        except Stopped as stopped:
            click.echo(str(stopped), err=True)
            if as_json:
                click.echo(to_json({"error": str(stopped)}))
            sys.exit(EXIT_STOPPED)
        else:
            click.echo(to_json(result) if as_json else text)
            sys.exit(status[0] if status else 0)

    return run


def fail(error: AdjobsError, *, as_json: bool, debug: bool) -> None:
    """Print an error and leave with status 2."""
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
    """Left-aligned columns under a header.

    >>> print(table([["cdo", "none"]], ["method", "labels"]))
    method  labels
    cdo     none
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [header, *rows]]
    return "\n".join(lines)
