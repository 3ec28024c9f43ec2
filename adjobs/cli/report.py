"""``adjobs report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.output import verb

if TYPE_CHECKING:
    from adjobs.evaluation.compare import Difference


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

    Several runs are shown side by side, with what their differences mean: each against the best, paired on the same test images.
    The page is to be read, printed and shared: it holds all its images and loads nothing
    from elsewhere.
    """
    from adjobs.config.environment import load_settings

    settings = load_settings()

    from adjobs.reporting.differences import Differences, differences
    from adjobs.reporting.page import comparison_warnings, is_report, write_page
    from adjobs.reporting.report import load_run_report
    from adjobs.storage.outputs import output_file
    from adjobs.tracking.runs import find_run, open_reader

    target = output_file(out, "a report of adjobs", is_report)
    runs = dict.fromkeys(find_run(settings.tracking_uri, settings.home, run_id) for run_id in run_ids)
    reports = [load_run_report(open_reader(run), with_scores=len(runs) > 1) for run in runs]
    size = write_page(reports, target)
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    text = f"{count} in {out} ({size / 1e6:.1f} MB)"
    result: dict[str, Any] = {"out": str(out), "runs": [run.run_id for run in runs]}
    if len(runs) == 1:
        return result, text
    warnings = comparison_warnings(reports)
    compared = " ".join(warnings) if warnings else differences(reports)
    if isinstance(compared, Differences):
        lines = [f"{_signed(each.difference)}  {each.sentence}" for each in compared.others]
        return result | {"differences": compared.to_dict()}, "\n".join([text, f"image AUROC, {compared.counts}:", *lines])
    return result | {"differences": None}, f"{text}\n{compared}"


def _signed(difference: Difference) -> str:
    """A difference with its interval."""
    if difference.value is None or difference.low is None or difference.high is None:
        return "-"
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
