"""What a search costs beside training: eight trials of 'adjobs tune' against eight jobs of 'adjobs train --local'.

    python benchmarks/searching.py elpv --size 128 [--epochs 1] [--at-once 2] [--trials 8]

Both do the same trainings of CDO with another γ each, as many at once as ``--at-once`` says, one thread each, on images that are
decoded already. Seconds in steps are those of the optimizer's steps only, from the speed that every run records; everything else
is overhead: starting processes, checking the data, validation, MLflow, and for jobs the test and its figures. Memory is that of
all processes with their children, Ray's own included; pages that several share are counted once (PSS).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psutil
import torch
import yaml
from report import machine, table, write_result

from adjobs.tracking.client import connect

ADJOBS = [sys.executable, "-m", "adjobs"]
HEAD = "| way | trainings | at once | seconds in all | trainings an hour | seconds in steps each | overhead each | peak PSS MiB |"


class Memory:
    """The peak PSS of this process's children and theirs, sampled."""

    def __init__(self) -> None:
        self.peak = 0.0

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample until the block ends."""
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(0.5):
                self.peak = max(self.peak, sum(map(_pss, psutil.Process().children(recursive=True))) / 2**20)

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _pss(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss)
    except psutil.Error:
        return 0.0


def call(arguments: Sequence[str], home: Path) -> dict[str, Any]:
    """Run a command of adjobs; returns its JSON."""
    environment = {**os.environ, "ADJOBS_HOME": str(home), "OMP_NUM_THREADS": "1"}
    process = subprocess.run([*ADJOBS, *arguments, "--json"], env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(process.stderr[-2000:])
    result: dict[str, Any] = json.loads(process.stdout)
    return result


def seconds_in_steps(uri: str, run_id: str, images: int) -> float:
    """Seconds that a run spent in optimizer steps."""
    return sum(images / point.value for point in connect(uri).get_metric_history(run_id, "train/images_per_s"))


def table_row(name: str, seconds: float, steps: Sequence[float], at_once: int, memory: Memory) -> list[str]:
    """A row of the table; ``steps`` has the seconds in steps of each training."""
    mean = sum(steps) / len(steps)
    overhead = seconds * at_once / len(steps) - mean
    numbers = [f"{seconds:.0f}", f"{3600 * len(steps) / seconds:.0f}", f"{mean:.1f}", f"{overhead:.1f}", f"{memory.peak:.0f}"]
    return [name, str(len(steps)), str(at_once), *numbers]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data set as 'adjobs train --data' takes it")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--epochs", type=int, default=1, help="of each training")
    parser.add_argument("--trials", type=int, default=8, help="number of trainings")
    parser.add_argument("--at-once", type=int, default=2, help="trainings at once")
    parser.add_argument("--name", default="searching", help="name of the file in results/")
    return parser.parse_args()


class Setting(NamedTuple):
    """What both ways have in common.

    Attributes:
        home: the user's folder of all commands, with the files of job and space.
        uri: of MLflow.
        images: number of normal training images.
    """

    home: Path
    uri: str
    images: int

    def seconds_in_steps(self, runs: Iterable[Mapping[str, Any]]) -> list[float]:
        """Of each run."""
        return [seconds_in_steps(self.uri, run["run_id"], self.images) for run in runs]


def prepare(arguments: argparse.Namespace, home: Path) -> Setting:
    """Write job and space; a first training checks and decodes the images."""
    params = {"epochs": arguments.epochs, "lr": 0.001}
    document = {"method": "cdo", "data": {"uri": arguments.data, "image_size": arguments.size}, "params": params}
    (home / "job.yaml").write_text(yaml.safe_dump(document))
    (home / "space.yaml").write_text(yaml.safe_dump({"method": "cdo", "parameters": {"params.gamma": {"uniform": [0, 4]}}}))
    first = call(["train", str(home / "job.yaml"), "--local"], home)
    uri = first["tracking_uri"]
    profile = connect(uri).get_run(first["run_id"]).inputs.dataset_inputs[0].dataset.profile
    return Setting(home, uri, json.loads(profile)["train/normal"])


def time_jobs(setting: Setting, trials: int, at_once: int) -> list[str]:
    """Train as separate jobs; returns a row of the table."""
    job = str(setting.home / "job.yaml")
    commands = [["train", job, "--local", "--set", f"params.gamma={i / 4}"] for i in range(trials)]
    memory, started_at = Memory(), time.perf_counter()
    with memory.sampling(), ThreadPoolExecutor(at_once) as pool:
        runs = list(pool.map(lambda command: call(command, setting.home), commands))
    return table_row("jobs", time.perf_counter() - started_at, setting.seconds_in_steps(runs), at_once, memory)


def time_search(setting: Setting, trials: int, at_once: int) -> tuple[list[str], float]:
    """Train as a search; returns a row of the table, and the seconds of the final training, which the row leaves out."""
    files = [str(setting.home / "job.yaml"), "--space", str(setting.home / "space.yaml")]
    options = ["--trials", str(trials), "--max-concurrent", str(at_once), "--sampler", "random"]
    options += ["--pruner", "none", "--repeats", "0"]
    memory, started_at = Memory(), time.perf_counter()
    with memory.sampling():
        search = call(["tune", *files, *options], setting.home)
    seconds = time.perf_counter() - started_at
    final = connect(setting.uri).get_run(search["final_run"]).info
    final_seconds = (final.end_time - final.start_time) / 1000
    steps = setting.seconds_in_steps(search["trials"])
    return table_row("search, without its final training", seconds - final_seconds, steps, at_once, memory), final_seconds


def main() -> None:
    """Time both ways and write the table."""
    arguments = parse_arguments()
    with TemporaryDirectory(prefix="adjobs-bench-") as folder:
        setting = prepare(arguments, Path(folder))
        jobs = time_jobs(setting, arguments.trials, arguments.at_once)
        search, final_seconds = time_search(setting, arguments.trials, arguments.at_once)
    about = f"CDO, {arguments.data}, {arguments.size} px, {setting.images} normal training images, {arguments.epochs} epochs."
    note = f"The final training of the search, with its test and figures, took {final_seconds:.0f} s more."
    write_result(arguments.name, "Searching", machine(torch.device("cpu")), [about, table(HEAD, [jobs, search]), note])


if __name__ == "__main__":
    main()
