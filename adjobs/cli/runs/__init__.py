"""``adjobs runs``: what was trained, and what came out."""

from __future__ import annotations

import click

from adjobs.cli.output import EXIT_PROBLEMS, VerbResult, verb
from adjobs.cli.runs import text

STATES = ("running", "finished", "failed", "killed")


@click.group()
def command() -> None:
    """List and show runs: those in MLflow, and those without it.

    Wherever a run is wanted, its id, the first digits of it (at least 4) or its name will do.

    \b
    adjobs runs list --method cdo
    adjobs runs show 4f2a91c0
    """  # noqa: D301 (click looks for the control character, not for a backslash)


@command.command("list")
@click.option("--method", help="Only runs of this method.")
@click.option("--state", type=click.Choice(STATES), help="Only runs in this state.")
@click.option("--experiment", help="Only runs of this experiment of MLflow.")
@click.option("--all", "with_children", is_flag=True, help="Also trials of searches and candidates of comparisons.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="The latest so many.")
@verb
def list_runs(method: str | None, state: str | None, experiment: str | None, with_children: bool, limit: int) -> VerbResult:
    """List runs with their main metric, the latest first.

    The metric is the image AUROC of the test images, or the best that a run has so far. Exit status 1 if MLflow does not answer,
    and only the runs without it are listed.
    """
    from adjobs.config.environment import load_settings

    settings = load_settings()

    from adjobs.tracking import listing

    wanted = listing.RunFilter(method, None if state is None else state.upper(), experiment, with_children)
    runs = listing.list_runs(settings.tracking_uri, settings.home, wanted, limit)
    if runs.unreachable is not None:
        click.echo(f"warning: the runs in MLflow are missing: {runs.unreachable}", err=True)
    result = {"runs": [run.to_dict() for run in runs.runs], "has_more": runs.has_more}
    return result, text.run_list(runs, is_filtered=wanted != listing.RunFilter()), EXIT_PROBLEMS if runs.unreachable else 0


@command.command()
@click.argument("run")
@verb
def show(run: str) -> VerbResult:
    """Show a run: metrics, the parameters that were set, thresholds, model and links.

    RUN is an id, the first digits of one (at least 4), or a name.
    """
    from adjobs.config.environment import load_settings

    settings = load_settings()

    from adjobs.tracking.details import read_details
    from adjobs.tracking.runs import find_run, open_reader

    details = read_details(open_reader(find_run(settings.tracking_uri, settings.home, run)))
    return details, text.run_details(details)
