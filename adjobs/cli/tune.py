"""``adjobs tune``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from adjobs.cli.output import table, verb
from adjobs.errors import JobError

SHOWN = 10  # trials in the summary


@click.command()
@click.argument("job_file", required=False, type=click.Path(path_type=Path))
@click.option("--space", type=click.Path(path_type=Path), help="YAML file of what varies, such as tune_spaces/cdo.yaml.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the job. Repeatable.")
@click.option("--name", help="Of the search, to go on with.  [default: method, data and time]")
@click.option("--trials", type=click.IntRange(1, 100_000), help="Trials in all.  [default: 30; a grid: its points]")
@click.option(
    "--hours", type=click.FloatRange(0, min_open=True), help="Start no trial that would end later, with the final training."
)
@click.option("--concurrent", type=click.IntRange(1, 10_000), help="Trials at once.  [default: as many as the cluster holds]")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME[:max|min]",
    help="Of validation, or a cost: ms_per_image, train_seconds, peak_memory_mib. Repeatable; the first chooses.  "
    "[default: the method's own]",
)
@click.option(
    "--sampler", type=click.Choice(["tpe", "random", "grid"]), default="tpe", show_default=True, help="What suggests trials."
)
@click.option(
    "--stopper", type=click.Choice(["asha", "median", "none"]), help="What stops trials early.  [default: asha, if it can]"
)
@click.option("--grace", type=click.IntRange(1), default=3, show_default=True, help="Validated rounds that every trial gets.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of what is drawn.")
@click.option("--resume", metavar="NAME", help="Go on with a search that was interrupted.")
@click.pass_context
@verb
def command(
    context: click.Context, job_file: Path | None, space: Path | None, resume: str | None, **given: Any
) -> tuple[dict[str, Any], str]:
    """Search for hyperparameters: many trials, of which validation chooses one that is then trained in full and tested.

    \b
    adjobs tune job.yaml --space tune_spaces/cdo.yaml --trials 30 --hours 2
    adjobs tune --resume NAME
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    from adjobs.config import resolve
    from adjobs.config.environment import load_settings

    if resume is None and (job_file is None or space is None):
        raise JobError("nothing to search: give a job file and --space FILE, or --resume NAME")
    if resume is not None:
        _only_limits(context, resume)
    prepared = None
    if job_file is not None:
        prepared = resolve.resolve(resolve.override(resolve.read_job(job_file), given["overrides"]), source=str(job_file))
    settings = load_settings()

    from adjobs.tuning import search
    from adjobs.tuning.display import Display
    from adjobs.tuning.plan import Options
    from adjobs.tuning.space import read_space

    limits = {"hours": given["hours"]}
    with Display() as display:
        if resume is not None:
            summary = search.resume(resume, settings, display, trials=given["trials"], concurrent=given["concurrent"], **limits)
        else:
            assert prepared is not None
            assert space is not None
            options = Options(**{key: given[key] for key in Options.__dataclass_fields__})
            summary = search.start(prepared, read_space(space), options, settings, display, name=given["name"], **limits)
    return summary, describe(summary)


def _only_limits(context: click.Context, resume: str) -> None:
    """A search goes on as it was begun."""
    free = {"resume", "trials", "hours", "concurrent", "as_json", "debug"}
    source = click.core.ParameterSource.COMMANDLINE
    fixed = [name for name in context.params if name not in free and context.get_parameter_source(name) == source]
    if fixed:
        got = ", ".join(sorted(fixed))
        raise JobError(f"--resume {resume}: takes {got} from the search; beside it give --trials, --hours or --concurrent only")


def describe(summary: dict[str, Any]) -> str:
    """The summary for a person."""
    best, chosen, was = summary["best"], summary["chosen"], summary["as_it_was"]
    metric = summary["metrics"][0].partition(":")[0]
    outcomes = Counter(trial["outcome"] for trial in summary["trials"])
    lines = [
        f"search      {summary['search']}",
        f"trials      {len(summary['trials'])}: " + ", ".join(f"{count} {name}" for name, count in outcomes.items()),
        f"best        trial {best['number']}, {metric} {best['value']:.4f}"
        + ("" if was is None else f"; the job as it was: {was:.4f}"),
        "",
        _trials(summary),
        "",
        *([_tested(chosen, metric), ""] if f"test/{metric}" in chosen else []),
        f"run         {summary['run_id']}, its best.yaml is ready for 'adjobs train'; trained: {summary['final_run']}",
        f"model       {summary['model']}",
        f"MLflow      {summary['run_url'] or summary['tracking_uri']}",
        f"took        {summary['seconds']:.0f} s",
    ]
    return "\n".join(lines)


def _trials(summary: dict[str, Any]) -> str:
    """The best trials with all objectives; of several objectives those that nothing beats have a mark."""
    from adjobs.tuning.space import in_words

    names = [metric.partition(":")[0] for metric in summary["metrics"]]
    ended = [trial for trial in summary["trials"] if trial["outcome"] == "finished" and names[0] in trial["values"]]
    ended.sort(key=lambda trial: trial["values"][names[0]], reverse=summary["metrics"][0].endswith(":max"))
    front = summary["pareto"]
    shown = [trial for i, trial in enumerate(ended) if i < SHOWN or trial["number"] in front]
    rows = [
        [
            f"{trial['number']}{'*' if trial['number'] in front else ''}",
            *(f"{trial['values'][name]:.4f}" if name in trial["values"] else "-" for name in names),
            f"{trial['seconds']:.0f}",
            in_words(trial["point"]),
        ]
        for trial in shown
    ]
    note = "\n* beaten by no other in all objectives" if front else ""
    return table(rows, ["trial", *names, "seconds", "values"]) + note


def _tested(chosen: dict[str, float | None], metric: str) -> str:
    """What the search promised and what the test part says."""

    def number(key: str) -> str:
        value = chosen.get(f"{key}/{metric}")
        return "undefined" if value is None else f"{value:.4f}"

    low, high = chosen.get(f"test/{metric}_low"), chosen.get(f"test/{metric}_high")
    between = "" if low is None or high is None else f" (95 % interval {low:.3f} to {high:.3f})"
    found = f"trained in full: validation {number('val')}, test {number('test')}{between}"
    return f"{found}\noptimism    {number('optimism')}: validation, which chose among the trials, minus test, which chose nothing"
