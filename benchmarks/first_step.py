"""Seconds from a submission to the first logged losses on the embedded stack: 'adjobs submit' beside 'ray job submit'.

    python benchmarks/first_step.py [--port-base 22400] [--repeats 3]

Both submit the same tiny job, alternately, to a stack of their own that has run one before. Time begins with the command and
ends with the time that MLflow has of the first training loss, which is logged after an epoch of two steps.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from queue_helpers import Jobs
from report import machine, table, write_result

from adjobs.config.settings import stack_environment
from adjobs.tracking.client import connect


def call(arguments: list[str], home: Path, **environment: str) -> str:
    """The standard output of a program with the user's folder ``home``."""
    full = {**os.environ, "ADJOBS_HOME": str(home), **environment}
    done = subprocess.run(arguments, env=full, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def adjobs(home: Path, *arguments: str) -> dict[str, Any]:
    """The result of a verb."""
    return dict(json.loads(call([sys.executable, "-m", "adjobs", *arguments, "--json"], home)))


def submit_to_queue(job: Path, home: Path) -> None:
    """Train by the queue, to the end."""
    adjobs(home, "submit", str(job), "--wait")


def submit_to_ray(job: Path, home: Path) -> None:
    """Train by Ray's own command, to the end."""
    ray = str(Path(sys.executable).with_name("ray"))
    call([ray, "job", "submit", "--", "adjobs", "train", str(job)], home, **stack_environment(home))


def first_loss_seconds(home: Path, started_at: float) -> tuple[float, float]:
    """Seconds until the latest run was opened, and until its first metric."""
    stack = stack_environment(home)
    os.environ.update({name: value for name, value in stack.items() if name.startswith("MLFLOW_")})
    client = connect(stack["MLFLOW_TRACKING_URI"])
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    run = client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)[0]
    times = [metric.timestamp for name in run.data.metrics for metric in client.get_metric_history(run.info.run_id, name)]
    return run.info.start_time / 1000 - started_at, min(times) / 1000 - started_at


def run_all(home: Path, jobs: Jobs, repeats: int) -> list[list[str]]:
    """A row for each submission; the first one warms the stack and is left out."""
    ways = {"`adjobs submit`": submit_to_queue, "`ray job submit`": submit_to_ray}
    order = ["`adjobs submit`", *(list(ways) * repeats)]
    rows = []
    for number, way in enumerate(order):
        document = {**jobs.request(number)["document"], "params": {"epochs": 2, "weights": "none"}}
        job = home / f"job-{number}.yaml"
        job.write_text(yaml.safe_dump(document))
        load, started_at = os.getloadavg()[0], time.time()
        ways[way](job, home)
        opened, first = first_loss_seconds(home, started_at)
        rows.append([way, f"{opened:.1f}", f"{first:.1f}", f"{time.time() - started_at:.1f}", f"{load:.1f}"])
        print(rows[-1], file=sys.stderr, flush=True)
    return rows[1:]


def main() -> None:
    """Start a stack, measure, write the table, stop the stack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port-base", type=int, default=22400, help="first port of the stack")
    parser.add_argument("--repeats", type=int, default=3, help="submissions each way")
    parser.add_argument("--name", default="queue-first-step", help="name of the file in results/")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="adjobs-") as folder:
        home = Path(folder)
        try:
            adjobs(home, "up", "--port-base", str(arguments.port_base))
            rows = run_all(home, Jobs(home / "drawn"), arguments.repeats)
        finally:
            adjobs(home, "down", "--force")
            shutil.rmtree(home / "stack", ignore_errors=True)
    medians = {way: np.median([float(row[2]) for row in rows if row[0] == way]) for way in dict.fromkeys(row[0] for row in rows)}
    queue, ray = medians.values()
    body = [
        table("| way | run opened after s | first losses after s | all after s | load before |", rows),
        f"Medians until the first losses: {queue:.1f} s by the queue, {ray:.1f} s by Ray, {queue / ray:.2f} times as long.",
    ]
    write_result(arguments.name, "From a submission to the first losses", machine(torch.device("cpu")), body)


if __name__ == "__main__":
    main()
