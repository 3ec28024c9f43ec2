"""What a search costs beside training: eight trials of 'adjobs tune' against eight jobs of 'adjobs train --local'.

    python benchmarks/searching.py elpv --size 128 [--epochs 1] [--at-once 2] [--trials 8]

Both do the same trainings of CDO with another γ each, as many at once as asked for, one thread each, on decoded images that
are there already. Seconds in steps are those of the optimizer's steps alone, from the speed that every run records; all else is
what is beside: starting processes, looking at the data, validation, MLflow, and for jobs the test and its figures. Memory is that
of all processes with their children, Ray's own included, where pages that several share are counted once (PSS).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
import yaml
from report import keep, machine, table

from adjobs.tracking.client import connect

ADJOBS = [sys.executable, "-c", "from adjobs.cli.main import main; main()"]
HEAD = "| way | trainings | at once | seconds in all | trainings an hour | seconds in steps each | beside each | peak PSS MiB |"


class Memory:
    """The largest PSS of this process's children and theirs, sampled."""

    def __init__(self) -> None:
        self.peak = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Sample until the block ends."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.5):
                self.peak = max(self.peak, sum(map(_pss, psutil.Process().children(recursive=True))) / 2**20)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _pss(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss)
    except psutil.Error:
        return 0.0


def call(arguments: Sequence[str], home: Path) -> dict[str, Any]:
    """One command of adjobs; returns what it prints."""
    environment = {**os.environ, "ADJOBS_HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*ADJOBS, *arguments, "--json"], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def stepping(uri: str, run_id: str, images: int) -> float:
    """Seconds that a run spent in optimizer steps."""
    return sum(images / point.value for point in connect(uri).get_metric_history(run_id, "train/images_per_s"))


def row(name: str, seconds: float, steps: Sequence[float], at_once: int, memory: Memory) -> list[str]:
    """A line of the table."""
    mean = sum(steps) / len(steps)
    beside = seconds * at_once / len(steps) - mean
    numbers = [f"{seconds:.0f}", f"{3600 * len(steps) / seconds:.0f}", f"{mean:.1f}", f"{beside:.1f}", f"{memory.peak:.0f}"]
    return [name, str(len(steps)), str(at_once), *numbers]


def main() -> None:
    """Run both ways, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="as 'adjobs train --data' takes it")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--name", default="searching", help="of the file in results/")
    arguments = parser.parse_args()
    trials, at_once = arguments.trials, arguments.at_once
    with TemporaryDirectory(prefix="adjobs-bench-") as place:
        home = Path(place)
        params = {"epochs": arguments.epochs, "lr": 0.001}
        document = {"method": "cdo", "data": {"uri": arguments.data, "image_size": arguments.size}, "params": params}
        (home / "job.yaml").write_text(yaml.safe_dump(document))
        (home / "space.yaml").write_text(yaml.safe_dump({"method": "cdo", "axes": {"params.gamma": {"uniform": [0, 4]}}}))
        first = call(["train", str(home / "job.yaml"), "--local"], home)  # decodes, and checks the pictures
        uri = first["tracking_uri"]
        images = json.loads(connect(uri).get_run(first["run_id"]).inputs.dataset_inputs[0].dataset.profile)["train/normal"]

        jobs, memory = (
            [["train", str(home / "job.yaml"), "--local", "--set", f"params.gamma={i / 4}"] for i in range(trials)],
            Memory(),
        )
        begin = time.perf_counter()
        with memory.watching(), ThreadPoolExecutor(at_once) as pool:
            found = list(pool.map(lambda job: call(job, home), jobs))
        rows = [row("jobs", time.perf_counter() - begin, [stepping(uri, f["run_id"], images) for f in found], at_once, memory)]

        options = ["--trials", str(trials), "--concurrent", str(at_once), "--sampler", "random", "--stopper", "none"]
        memory, begin = Memory(), time.perf_counter()
        with memory.watching():
            searched = call(["tune", str(home / "job.yaml"), "--space", str(home / "space.yaml"), *options], home)
        final = searched["final_run"]
        whole = time.perf_counter() - begin
        run = connect(uri).get_run(final)
        alone = (run.info.end_time - run.info.start_time) / 1000
        steps = [stepping(uri, trial["run_id"], images) for trial in searched["trials"]]
        rows.append(row("search, without its final training", whole - alone, steps, at_once, memory))
    about = f"CDO, {arguments.data}, {arguments.size} px, {images} good pictures, {arguments.epochs} epochs"
    note = f"The final training of the search, with its test and figures, took {alone:.0f} s more."
    keep(arguments.name, "Searching", machine(torch.device("cpu")), [about + ".", table(HEAD, rows), note])


if __name__ == "__main__":
    main()
