"""Whether Ray's workers import the package that runs here, and what an error in a worker says."""

from __future__ import annotations

import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from adjobs.errors import ClusterError, one_line, shorten

_PACKAGE = Path(__file__).resolve().parents[2]  # adjobs
_ERROR_LINE = re.compile(r"[\w.]*(Error|Exception)\b")


def check_package(folder: Path) -> None:
    """Check that workers import this package. They search the driver's current folder for modules before anything else.

    Args:
        folder: the current folder.

    Raises:
        ClusterError: it holds another package, or a folder that hides an editable installation.
    """
    if PathFinder.find_spec("adjobs", [str(folder)]) is None:
        return
    spec = PathFinder.find_spec("adjobs", [str(folder), *sys.path])
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve().parent == _PACKAGE:
        return
    is_package = spec is not None and spec.origin is not None
    remedy = "install adjobs from this folder (pip install -e .)" if is_package else "install adjobs again (pip install)"
    problem = f"{folder / 'adjobs'}: Ray's workers would import this in place of the package in {_PACKAGE}"
    raise ClusterError(f"{problem}; run the command in another folder, or {remedy}")


def root_cause(error: BaseException) -> str:
    """What an error says in one line: of a worker's traceback, which Ray puts into the message, the last error."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()]
    matching = [line for line in lines if _ERROR_LINE.match(line)]
    return shorten(matching[-1], 300) if matching and len(lines) > 1 else one_line(error)
