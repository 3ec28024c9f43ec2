"""``adjobs compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.output import table, verb
from adjobs.errors import JobError
from adjobs.waits import waiting_for

if TYPE_CHECKING:
    from adjobs.comparison.config import ComparisonConfig
    from adjobs.comparison.result import ComparisonResult


@click.command()
@click.argument("data", required=False)
@click.option("--methods", metavar="NAME,…", help="Methods to compare.  [default: every method that the labels allow]")
@click.option("--budget", metavar="DURATION", help="Time for all trainings, shared equally, such as 30m or 8h.  [default: 30m]")
@click.option(
    "--metric",
    help="Metric of the validation split that ranks the methods, such as image_auroc or pixel_ap.  [default: image_auroc]",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key, such as data.image_size=128. Repeatable."
)
@click.option("--name", help="Name to resume the comparison by.  [default: made of data and time]")
@click.option("--local", is_flag=True, help="Train in this process, without Ray.")
@click.option("--resume", metavar="NAME", help="Resume a comparison that was interrupted; no other option is allowed.")
@verb
def command(data: str | None, name: str | None, local: bool, resume: str | None, **options: Any) -> tuple[ComparisonResult, str]:
    """Find out which method suits the data.

    DATA is a folder, an s3:// URI, elpv, or a job file (.yaml) without a method. All methods are trained on the same splits in
    equal time; validation ranks them, says which of them cannot be distinguished, and recommends one, which is tested once.

    \b
    adjobs compare images/ --budget 30m
    adjobs compare compare.yaml --methods cdo,liac
    adjobs compare --resume NAME
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    from adjobs.config.environment import load_settings

    if resume is not None and (data or name or local or any(options.values())):
        raise JobError("--resume: takes everything from the comparison; remove the data and all other options")
    if resume is None and data is None:
        raise JobError("nothing to compare on: give a folder, an s3:// URI or a job file, or --resume NAME")
    config = None if data is None else read_config(data, **options)
    settings = load_settings()

    from adjobs.cli.signals import close_runs_when_stopped

    with waiting_for("loading PyTorch"):
        from adjobs.comparison import run
    from adjobs.comparison.observer import Display

    with close_runs_when_stopped(), Display() as display:
        if config is None:
            result = run.resume_comparison(str(resume), settings, display)
        else:
            result = run.run_comparison(config, settings, display, backend="local" if local else "ray", name=name)
    return result, describe(result)


def read_config(
    data: str, methods: str | None, budget: str | None, metric: str | None, overrides: tuple[str, ...]
) -> ComparisonConfig:
    """What to compare, from a job file or the address of the data, and the options."""
    from adjobs.comparison.config import parse_comparison
    from adjobs.config import resolve

    is_file = data.endswith((".yaml", ".yml"))
    document = resolve.override(resolve.read_job(Path(data)) if is_file else {"data": {"uri": data}}, overrides)
    section = document.get("compare") or {}
    if isinstance(section, dict):  # parse_comparison refuses anything else
        chosen = {"methods": methods and [name.strip() for name in methods.split(",")], "budget": budget, "metric": metric}
        document["compare"] = {**section, **{key: value for key, value in chosen.items() if value is not None}}
    return parse_comparison(document, source=data if is_file else "comparison")


def describe(result: ComparisonResult) -> str:
    """The result for a person."""
    from adjobs.comparison import report

    ranking = result.ranking
    lines = [
        f"comparison  {result.name}",
        f"data        {result.data}",
        f"            {report.describe_counts(ranking)}",
        "",
        table(report.table_rows(ranking), report.table_header(ranking)),
        "* recommended; intervals of the differences hold together with 95 % confidence",
        *report.not_compared(ranking),
        "",
        *([table(report.curve_rows(ranking), report.curve_header(ranking)), ""] if ranking.curves else []),
        *result.recommendation,
        "",
        report.describe_test(result),
        "",
        f"run         {result.run_id}; tested: {result.chosen_run}",
        f"model       {result.model}",
        f"tracked in  {result.run_url or result.tracking_uri}",
        f"took        {result.seconds:.0f} s",
    ]
    return "\n".join(lines)
