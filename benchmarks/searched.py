"""A search's own account as a page of results/: what was tried, what it chose, and how far validation flattered the choice.

adjobs tune job.yaml --space tune_spaces/cdo.yaml --json > search.json
python benchmarks/searched.py search.json --name search-cdo-tiles --about "Magnetic tiles, 128 px, ten epochs."
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from report import keep, machine, table

from adjobs.tuning.space import in_words

SHOWN = 10


def trials(found: dict[str, Any], metric: str, *, higher: bool) -> str:
    """The best trials as a table."""
    ended = [trial for trial in found["trials"] if trial["outcome"] == "finished" and metric in trial["values"]]
    ended.sort(key=lambda trial: trial["values"][metric], reverse=higher)
    rows = [
        [in_words(trial["point"]), str(trial["number"]), f"{trial['values'][metric]:.4f}", f"{trial['seconds']:.0f}"]
        for trial in ended[:SHOWN]
    ]
    return table(f"| values | trial | {metric}, validation | seconds |", rows)


def choice(found: dict[str, Any], metric: str) -> str:
    """What the choice came to."""
    chosen = found["chosen"]
    best, val, test, flattery = (chosen[f"{key}/{metric}"] for key in ("search", "val", "test", "optimism"))
    low, high = chosen.get(f"test/{metric}_low"), chosen.get(f"test/{metric}_high")
    between = "" if low is None else f" (95 %: {low:.3f} to {high:.3f})"
    was = "" if found["as_it_was"] is None else f"; the job as it was: {found['as_it_was']:.4f}"
    return (
        f"**{metric}**: best of the search {best:.4f} on validation{was}. Trained again, in full: validation {val:.4f}, test "
        f"**{test:.4f}**{between}. Optimism, validation of the search minus test: {flattery:.4f}."
    )


def main() -> None:
    """Read, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("search", type=Path, help="what 'adjobs tune --json' printed")
    parser.add_argument("--name", required=True, help="of the file in results/")
    parser.add_argument("--about", default="", help="data, size, length, split")
    arguments = parser.parse_args()
    found = json.loads(arguments.search.read_text().splitlines()[-1])
    metric, _, direction = found["metrics"][0].partition(":")
    outcomes = Counter(trial["outcome"] for trial in found["trials"])
    counts = f"{len(found['trials'])} trials: " + ", ".join(f"{count} {name}" for name, count in outcomes.items())
    share = ", ".join(f"{key.removeprefix('params.')} {value:.2f}" for key, value in found["importance"].items())
    body = [
        f"{arguments.about} {counts}, {found['seconds']:.0f} s.".strip(),
        choice(found, metric),
        trials(found, metric, higher=direction == "max"),
    ]
    body += [f"Share of the variance that each key explains (fANOVA): {share}."] if share else []
    keep(arguments.name, f"Search: {found['method']}", machine(torch.device("cpu")), body)


if __name__ == "__main__":
    main()
