"""``adjobs threshold``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adjobs.cli.output import table, verb
from adjobs.metrics.policies import POLICIES, ThresholdPolicy

if TYPE_CHECKING:
    from adjobs.jobs.result import ThresholdResult


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--policy", required=True, type=click.Choice(list(POLICIES)), help="How the threshold is chosen.")
@click.option(
    "--value",
    type=float,
    help="fixed: the threshold; max_fpr: largest false-alarm rate; miss_cost: cost of a miss relative to that of a false alarm; "
    "defect_ratio: share of images that raises an alarm; max_f1 takes none.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Confidence of the bound on the false-alarm rate.",
)
@click.option(
    "--strict", is_flag=True, help="With max_fpr: keep the bound, not only the rate on validation, at or below the value."
)
@click.option("--pixel", is_flag=True, help="Choose the threshold for pixels; runs the model on the run's data.")
@click.option("--register", is_flag=True, help="Give the job's registered model a new version.")
@verb
def command(
    run_id: str, policy: str, value: float | None, confidence: float, strict: bool, pixel: bool, register: bool
) -> tuple[ThresholdResult, str]:
    """Choose the threshold of a finished run again, without training.

    It is chosen on the scores of the validation split. The run gets a model with the new threshold and the same weights; its
    decisions, metrics and figures are updated, and thresholds.json keeps the history.
    """
    from adjobs.config.environment import load_settings

    settings = load_settings()

    from adjobs.jobs.recalibrate import recalibrate
    from adjobs.tracking.runs import find_run

    run = find_run(settings.tracking_uri, settings.home, run_id)
    threshold_policy = ThresholdPolicy(policy, value, confidence, strict)
    result = recalibrate(run, settings, threshold_policy, level="pixel" if pixel else "image", register=register)
    return result, describe(result)


def describe(result: ThresholdResult) -> str:
    """The change for a person."""

    def number(value: float | None) -> str:
        return "undefined" if value is None else f"{value:.3f}"

    old, new = result.old, result.new
    rows = [[name, number(change.before), number(change.after)] for name, change in result.test.items()]
    lines = [
        f"{result.level} threshold {'none' if old is None else format(old['value'], '.6g')} -> {new['value']:.6g}",
        f"old     {'none' if old is None else old['meaning']}",
        f"new     {new['meaning']}",
        *([table(rows, ["test", "before", "after"])] if rows else []),
        f"model   {result.model}" + (f", a new version of {result.registered}" if result.registered else ""),
        f"use it  adjobs predict --model {result.run_id} IMAGES",
    ]
    return "\n".join(lines)
