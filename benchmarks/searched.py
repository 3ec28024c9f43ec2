"""The result of a search as a page of results/: its trials, what it chose, and how much better validation looked than the test.

    adjobs tune job.yaml --space tune_spaces/cdo.yaml --json > search.json
    python benchmarks/searched.py search.json --name search-cdo-tiles --about "Magnetic tiles, 128 px, ten epochs."

Neither images nor services are needed.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from report import machine, table, write_result

from adjobs.tuning.finalists import SEED_KEY
from adjobs.tuning.space import format_params
from adjobs.tuning.state import TrialState

SHOWN = 10


def trial_table(search: dict[str, Any], metric: str, *, higher_is_better: bool) -> str:
    """The best trials as a table."""
    complete = [trial for trial in search["trials"] if trial["state"] == TrialState.COMPLETE and metric in trial["values"]]
    complete.sort(key=lambda trial: trial["values"][metric], reverse=higher_is_better)
    rows = [
        [format_params(trial["params"]), str(trial["number"]), f"{trial['values'][metric]:.4f}", f"{trial['seconds']:.0f}"]
        for trial in complete[:SHOWN]
    ]
    return table(f"| values | trial | {metric}, validation | seconds |", rows)


def describe_choice(search: dict[str, Any], metric: str) -> str:
    """The best trial beside the final training."""
    chosen = search["chosen"]
    best, val, test, gap = (chosen[f"{key}/{metric}"] for key in ("search", "val", "test", "optimism"))
    low, high = chosen.get(f"test/{metric}_low"), chosen.get(f"test/{metric}_high")
    interval = "" if low is None else f" (95 %: {low:.3f} to {high:.3f})"
    baseline = "" if search["baseline"] is None else f"; the job as it is: {search['baseline']:.4f}"
    return (
        f"**{metric}**: best of the search {best:.4f} on validation{baseline}. Trained again, in full: validation {val:.4f}, "
        f"test **{test:.4f}**{interval}. Optimism, validation of the search minus test: {gap:.4f}."
    )


def seed_table(search: dict[str, Any]) -> list[str]:
    """The finalists by seed, and by how much another seed moves the objective."""
    if search.get("deviation_over_seeds") is None:
        return []
    seeds = sorted({seed for finalist in search["finalists"] for seed in finalist["values"]}, key=int)
    rows = [
        [str(finalist["number"]), *(f"{finalist['values'][seed]:.4f}" if seed in finalist["values"] else "-" for seed in seeds)]
        for finalist in search["finalists"]
    ]
    head = f"| finalist | {' | '.join(f'seed {seed}' for seed in seeds)} |"
    return [table(head, rows), f"Standard deviation over seeds: {search['deviation_over_seeds']:.4f}."]


def main() -> None:
    """Read the JSON of a search and write its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("search", type=Path, help="what 'adjobs tune --json' printed")
    parser.add_argument("--name", required=True, help="name of the file in results/")
    parser.add_argument("--about", default="", help="data, size, length, split")
    arguments = parser.parse_args()
    search = json.loads(arguments.search.read_text().splitlines()[-1])
    trials = [trial for trial in search["trials"] if SEED_KEY not in trial["params"]]
    metric, _, direction = search["metrics"][0].partition(":")
    states = Counter(TrialState(trial["state"]).label for trial in trials if trial["state"])
    counts = f"{len(trials)} trials: " + ", ".join(f"{count} {state}" for state, count in states.items())
    importance = ", ".join(f"{key.removeprefix('params.')} {value:.2f}" for key, value in search["importance"].items())
    body = [
        f"{arguments.about} {counts}, {search['seconds']:.0f} s.".strip(),
        describe_choice(search, metric),
        trial_table({**search, "trials": trials}, metric, higher_is_better=direction == "max"),
    ]
    body += seed_table(search)
    body += [f"Share of the variance that each key explains (fANOVA): {importance}."] if importance else []
    write_result(arguments.name, f"Search: {search['method']}", machine(torch.device("cpu")), body)


if __name__ == "__main__":
    main()
