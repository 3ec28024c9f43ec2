"""The verbs of ``adjobs data`` in this process."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from adjobs.cli.main import main


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, args)])
