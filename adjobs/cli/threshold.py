"""``adjobs threshold``."""

from __future__ import annotations

from typing import Any

import click

from adjobs.cli.output import table, verb
from adjobs.metrics.policies import POLICIES


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--policy", required=True, help=f"One of {', '.join(POLICIES)}.")
@click.option("--value", type=float, help="What the policy takes: a threshold, a rate, a cost or a share.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of the bound on the false-alarm rate.")
@click.option("--strict", is_flag=True, help="With max_fpr: the bound, not only the rate on validation, must keep to the value.")
@click.option("--pixel", is_flag=True, help="Choose the threshold for the pixels of maps; runs the model on the run's data.")
@click.option("--register", is_flag=True, help="Give the job's registered model a new version.")
@verb
def command(
    run: str, policy: str, value: float | None, confidence: float, strict: bool, pixel: bool, register: bool
) -> tuple[dict[str, Any], str]:
    """Choose the threshold of a finished run anew, without training.

    It is chosen on the scores of the validation part. The run gets a model with the new threshold and the same weights, its
    decisions, measures and figures are brought up to date, and thresholds.json keeps the history.
    """
    from adjobs.config import settings as places

    found = places.load()

    from adjobs.jobs.recalibrate import Wanted, recalibrate

    wanted = Wanted(policy, value, confidence, strict)
    result = recalibrate(run, found, wanted, level="pixel" if pixel else "image", register=register)
    return result, describe(result)


def describe(result: dict[str, Any]) -> str:
    """The change for a person."""

    def number(value: float | None) -> str:
        return "undefined" if value is None else f"{value:.3f}"

    old, new = result["old"], result["new"]
    rows = [[name, number(both["before"]), number(both["after"])] for name, both in result["test"].items()]
    lines = [
        f"{result['level']} threshold {'none' if old is None else format(old['value'], '.6g')} -> {new['value']:.6g}",
        f"old     {'none' if old is None else old['meaning']}",
        f"new     {new['meaning']}",
        *([table(rows, ["test", "before", "after"])] if rows else []),
        f"model   {result['model']}" + (f", a new version of {result['registered']}" if result["registered"] else ""),
        f"use it  adjobs predict --model {result['run_id']} PICTURES",
    ]
    return "\n".join(lines)
