"""``adjobs report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adjobs.cli.output import verb


@click.command()
@click.argument("run_ids", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="report.html",
    show_default=True,
    help="Path of the page; an existing report is replaced.",
)
@verb
def command(run_ids: tuple[str, ...], out: Path) -> tuple[dict[str, Any], str]:
    """Write one HTML page about one or several runs.

    Several runs are shown side by side. The page is to be read, printed and shared: it holds all its images and loads nothing
    from elsewhere.
    """
    from adjobs.config.environment import load_settings

    settings = load_settings()

    from adjobs.reporting.page import is_report, write_page
    from adjobs.reporting.report import load_run_report
    from adjobs.storage.outputs import output_file
    from adjobs.tracking.runs import find_run, open_reader

    target = output_file(out, "a report of adjobs", is_report)
    runs = dict.fromkeys(find_run(settings.tracking_uri, settings.home, run_id) for run_id in run_ids)
    size = write_page([load_run_report(open_reader(run)) for run in runs], target)
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return {"out": str(out), "runs": [run.run_id for run in runs]}, f"{count} in {out} ({size / 1e6:.1f} MB)"
