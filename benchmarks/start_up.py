"""How long the command line and the library take to start. Prints a table and keeps it in results/.

    python benchmarks/start_up.py [--baseline DIR] [--runs 21]

``--baseline``: a checkout of an older build. The builds take turns, each time in a process of their own, so that other work on
the machine meets both. Given are medians of the wall time and of the time of the processor, which other work changes less.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from report import commit, machine, table, write_result

CHECKOUT = Path(__file__).parents[1]
CALLS = {
    "`adjobs --help`": "from adjobs.cli.main import main; main(['--help'], prog_name='adjobs')",
    "`adjobs data --help`": "from adjobs.cli.main import main; main(['data', '--help'], prog_name='adjobs')",
    "`import adjobs`": "import adjobs",
    "Python alone": "pass",
}
HEAD = "| start | wall ms | processor ms |"
HEAD_BESIDE = "| start | wall ms | older | ratio | processor ms | older | ratio |"


class Seconds(NamedTuple):
    """What a process took."""

    wall: float
    processor: float


def start(checkout: Path, code: str) -> Seconds:
    """Run a program with the modules of a checkout; ends this program with its last line where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    before, started_at = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    wall, after = time.perf_counter() - started_at, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{checkout}: {code!r} failed: {done.stderr.decode().strip().splitlines()[-1:]}")
    return Seconds(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def compare(code: str, checkouts: list[Path], runs: int) -> list[str]:
    """The cells of a call: medians of each checkout, and their ratios to the last where there are two."""
    for checkout in checkouts:
        start(checkout, code)  # compiles the modules
    rounds = []
    for i in range(runs):
        order = checkouts if i % 2 else checkouts[::-1]
        seconds = {checkout: start(checkout, code) for checkout in order}
        rounds.append([seconds[checkout] for checkout in checkouts])
    medians = np.median(np.array(rounds), axis=0) * 1000  # of each checkout: wall, processor
    cells: list[str] = []
    for figure in range(2):
        cells += [f"{value:.0f}" for value in medians[:, figure]]
        if len(checkouts) > 1:
            cells.append(f"{medians[0, figure] / medians[1, figure]:.2f}")
    return cells


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="checkout of an older build")
    parser.add_argument("--runs", type=int, default=21, help="of each build and call")
    arguments = parser.parse_args()
    checkouts = [CHECKOUT, *([arguments.baseline.resolve()] if arguments.baseline else [])]
    about = machine(torch.device("cpu"))
    rows = [[name, *compare(code, checkouts, arguments.runs)] for name, code in CALLS.items()]
    older = f" Older: {commit(arguments.baseline)}, in turns." if arguments.baseline else ""
    text = f"Medians of {arguments.runs} starts each, with compiled modules in the page cache.{older}"
    head = HEAD_BESIDE if arguments.baseline else HEAD
    write_result("start-up", "How long adjobs takes to start", about, [table(head, rows), text])


if __name__ == "__main__":
    main()
