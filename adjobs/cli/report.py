"""``adjobs report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adjobs.cli.output import verb


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.html",
    show_default=True,
    help="The page; an older one is replaced.",
)
@verb
def command(runs: tuple[str, ...], out: Path) -> tuple[dict[str, Any], str]:
    """Write a run, or several side by side, as one HTML page to read, print and hand on.

    The page holds all its pictures and loads nothing from elsewhere.
    """
    from adjobs.config.environment import load_settings

    settings = load_settings()

    from adjobs.reporting.page import write
    from adjobs.reporting.report import gather

    names = list(dict.fromkeys(run.removeprefix("runs:/").strip("/") for run in runs))
    size = write([gather(settings.tracking_uri, name) for name in names], out)
    what = "1 run" if len(names) == 1 else f"{len(names)} runs"
    return {"out": str(out), "runs": names}, f"{what} in {out} ({size / 1e6:.1f} MB)"
