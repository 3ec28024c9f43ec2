"""``adjobs tune``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adjobs.cli.output import table, verb
from adjobs.config.duration import HINT, to_seconds
from adjobs.errors import JobError, shown
from adjobs.waits import waiting_for

if TYPE_CHECKING:
    from adjobs.tuning.result import Optimism, SearchResult, StudyResult

TRIALS_SHOWN = 10


@click.command()
@click.argument("job_file", required=False, type=click.Path(path_type=Path))
@click.option("--space", type=click.Path(path_type=Path), help="YAML file of what varies, such as tune_spaces/cdo.yaml.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one key of the job. Repeatable.")
@click.option("--name", help="Name to resume the search by.  [default: made of method, data and time]")
@click.option(
    "--trials",
    type=click.IntRange(1, 100_000),
    help="Number of trials in all.  [default: 30; with --sampler grid the whole grid]",
)
@click.option(
    "--time-budget",
    metavar="DURATION",
    help="Start no trial that would not end in this time together with the final training, such as 90s, 45m, 2h or 1d.",
)
@click.option(
    "--max-concurrent",
    type=click.IntRange(1, 10_000),
    help="Run at most this many trials at once.  [default: as many as the cluster holds]",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME[:max|min]",
    help="Objective: a metric of the validation split, or ms_per_image, train_seconds, peak_memory_mib. Repeatable; the first "
    "one chooses the best trial.  [default: the method's own]",
)
@click.option(
    "--sampler", type=click.Choice(["tpe", "random", "grid"]), default="tpe", show_default=True, help="How values are suggested."
)
@click.option(
    "--pruner",
    type=click.Choice(["asha", "median", "none"]),
    help="How unpromising trials are stopped early.  [default: asha if the only objective is known after each validation]",
)
@click.option(
    "--grace-period",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Number of validations that every trial gets before it may be pruned.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the sampler.")
@click.option(
    "--repeats",
    type=click.IntRange(0, 100),
    default=2,
    show_default=True,
    help="Train the two best trials and the job as it is with this many further seeds, and choose by the mean.",
)
@click.option("--resume", metavar="NAME", help="Resume a search that was interrupted, by its name.")
@click.pass_context
@verb
def command(
    context: click.Context,
    job_file: Path | None,
    space: Path | None,
    resume: str | None,
    time_budget: str | None,
    **arguments: Any,
) -> tuple[SearchResult, str]:
    """Search for hyperparameters, train the best in full and test it.

    Many trials train on the job's data. The validation split chooses one of them, which is then trained in full and tested once.
    Chance moves a training, too: the two best trials and the job as it is are trained with further seeds, and the best mean wins.
    A search that was interrupted is resumed with what it was started with: beside --resume only --trials, --time-budget and
    --max-concurrent can be given.

    \b
    adjobs tune job.yaml --space tune_spaces/cdo.yaml --trials 30 --time-budget 2h
    adjobs tune --resume NAME
    """  # noqa: D301 (click looks for the control character, not for a backslash)
    from adjobs.config import resolve
    from adjobs.config.environment import load_settings

    if resume is None and (job_file is None or space is None):
        raise JobError("nothing to search: give a job file and --space FILE, or --resume NAME")
    if resume is not None:
        _refuse_fixed_options(context, resume)
    budget = None if time_budget is None else parse_duration(time_budget)
    job = None
    if job_file is not None:
        job = resolve.resolve(resolve.override(resolve.read_job(job_file), arguments["overrides"]), source=str(job_file))
    settings = load_settings()

    from adjobs.cli.signals import close_runs_when_stopped

    with waiting_for("loading PyTorch"):
        from adjobs.tuning import search
    from adjobs.tuning.display import Display
    from adjobs.tuning.plan import SearchOptions
    from adjobs.tuning.space import read_space

    with close_runs_when_stopped(), Display() as display:
        if resume is not None:
            limits = {key: arguments[key] for key in ("trials", "max_concurrent")}
            result = search.resume_search(resume, settings, display, time_budget_s=budget, **limits)
        else:
            assert job is not None
            assert space is not None
            options = SearchOptions(**{key: arguments[key] for key in SearchOptions.__dataclass_fields__})
            result = search.run_search(
                job, read_space(space), options, settings, display, name=arguments["name"], time_budget_s=budget
            )
    return result, describe(result)


def _refuse_fixed_options(context: click.Context, resume: str) -> None:
    """A search is resumed with the options that it was started with."""
    changeable = {"resume", "trials", "time_budget", "max_concurrent", "as_json", "debug"}
    source = click.core.ParameterSource.COMMANDLINE
    options = [parameter for parameter in context.command.params if parameter.name not in changeable]
    fixed = [_flag(option) for option in options if option.name and context.get_parameter_source(option.name) == source]
    if fixed:
        raise JobError(
            f"--resume {resume}: takes {', '.join(sorted(fixed))} from the search; beside it only --trials, --time-budget and "
            "--max-concurrent may be given"
        )


def _flag(parameter: click.Parameter) -> str:
    """As it is written on the command line."""
    return parameter.opts[0] if isinstance(parameter, click.Option) else "the job file"


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``90s``, ``45m``, ``2h`` or ``1.5d``.

    Raises:
        JobError: it is not a positive number with a unit.
    """
    seconds = to_seconds(text)
    if seconds is None:
        raise JobError(f"--time-budget: got {shown(text)}; {HINT}")
    return seconds


def describe(result: SearchResult) -> str:
    """The result for a person."""
    study, best = result.study, result.best
    metric = study.objectives[0].metric
    states = Counter("unfinished" if trial.state is None else trial.state.label for trial in study.searched)
    baseline = "" if study.baseline is None else f"; the job as it is: {study.baseline:.4f}"
    optimism = result.optimism.get(metric)
    lines = [
        f"search      {result.name}",
        f"trials      {len(study.searched)}: " + ", ".join(f"{count} {state}" for state, count in states.items()),
        f"best        trial {best.number}, {metric} {best.values[metric]:.4f}{baseline}",
        "",
        _trials(study),
        "",
        *_seeds(study),
        "",
        *([_describe_optimism(optimism), ""] if optimism else []),
        f"run         {result.run_id}, its best.yaml is ready for 'adjobs train'; trained: {result.final_run}",
        f"model       {result.model}",
        f"tracked in  {result.run_url or result.tracking_uri}",
        f"took        {result.seconds:.0f} s",
    ]
    return "\n".join(lines)


def _trials(study: StudyResult) -> str:
    """The best trials with all objectives; with several objectives those on the Pareto front have a mark."""
    from adjobs.tuning.space import format_params

    metrics = [objective.metric for objective in study.objectives]
    front = study.pareto
    rows = [
        [
            f"{trial.number}{'*' if trial.number in front else ''}",
            *(f"{trial.values[metric]:.4f}" if metric in trial.values else "-" for metric in metrics),
            f"{trial.seconds:.0f}",
            format_params(trial.params),
        ]
        for i, trial in enumerate(study.ranking())
        if i < TRIALS_SHOWN or trial.number in front
    ]
    note = "\n* on the Pareto front: no other trial is better in all objectives" if front else ""
    return table(rows, ["trial", *metrics, "seconds", "parameters"]) + note


def _seeds(study: StudyResult) -> list[str]:
    """The finalists with all their seeds, and what these say."""
    if study.deviation_over_seeds is None:
        return [f"seeds       {study.seed_verdict()}"]
    header, rows = study.seed_table()
    return [table(rows, header), "", f"seeds       {study.seed_verdict()}"]


def _describe_optimism(optimism: Optimism) -> str:
    """What the search promised, and what the test split says."""

    def number(value: float | None) -> str:
        return "undefined" if value is None else f"{value:.4f}"

    low, high = optimism.test_low, optimism.test_high
    interval = "" if low is None or high is None else f" (95 % interval {low:.3f} to {high:.3f})"
    return (
        f"trained in full: validation {number(optimism.val)}, test {number(optimism.test)}{interval}\n"
        f"optimism    {number(optimism.gap)}: validation, which chose among the trials, minus test, which chose nothing"
    )
