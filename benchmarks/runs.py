"""Runs of a long benchmark: each in a process of its own, kept when it is finished, and not repeated."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from report import commit, machine, table, write_result
from training import BenchmarkData, default_device, open_data

from adjobs.config.environment import load_settings
from adjobs.config.job import JobConfig

Work = Callable[[JobConfig, BenchmarkData], dict[str, Any]]
MakeJob = Callable[[int, int], JobConfig]  # of a split seed and a training seed
Splits = Mapping[int, BenchmarkData]  # by split seed


def run_or_load(folder: Path, name: str, job: JobConfig, data: BenchmarkData, work: Work, threads: int) -> dict[str, Any]:
    """Do the work, unless ``folder`` holds the result of this very job on these very data.

    What adjobs keeps of a run (checkpoints, figures, the detector) goes to a temporary folder: the work copies what is needed
    later.

    Args:
        folder: of finished runs.
        name: of the file, before a hash of job and data.
        job: the job.
        data: the data.
        work: a function at the top of a module; returns what JSON can hold.
        threads: of the process.
    """
    path = folder / f"{name}-{run_key(job, data)}.json"
    if path.is_file():
        stored: dict[str, Any] = json.loads(path.read_text())
        return stored
    print(path.stem, file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    origin = f"commit {commit()} with {threads} threads"
    with TemporaryDirectory(prefix=".running-", dir=folder) as home:
        environment = {
            "ADJOBS_HOME": home,
            "ADJOBS_ARTIFACTS": str(Path(home, "artifacts")),
            "ADJOBS_CACHE": str(load_settings().cache),
        }
        context = get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, initializer=_set_up, initargs=(threads, environment)) as pool:
            result = pool.submit(work, job, data).result() | {"origin": origin}
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(result))
    unfinished.rename(path)
    return result


def _set_up(threads: int, environment: Mapping[str, str]) -> None:
    torch.set_num_threads(threads)
    os.environ.update(environment)


def open_splits(arguments: argparse.Namespace, make_job: MakeJob) -> Splits:
    """Open the data once for each split seed of the command line."""
    return {split_seed: open_data(make_job(split_seed, arguments.seeds[0])) for split_seed in arguments.split_seeds}


def format_of(splits: Splits) -> str:
    """Format of the data set, which stands for its name in tables and files."""
    return next(iter(splits.values())).dataset.format


def run_seeds(arguments: argparse.Namespace, label: str, splits: Splits, make_job: MakeJob, work: Work) -> list[dict[str, Any]]:
    """The runs of all split seeds, each with all training seeds.

    Args:
        arguments: of the command line, see :func:`make_parser`.
        label: what the runs have in common, in the names of their files.
        splits: the data by split seed.
        make_job: gives the job of a split seed and a training seed.
        work: as for :func:`run_or_load`.
    """
    runs = []
    for split_seed, seed in product(arguments.split_seeds, arguments.seeds):
        data = splits[split_seed]
        name = f"{data.dataset.format}-{slug(label)}-d{split_seed}-s{seed}"
        runs.append(run_or_load(arguments.runs, name, make_job(split_seed, seed), data, work, arguments.threads))
    return runs


def run_key(job: JobConfig, data: BenchmarkData) -> str:
    """A hash that distinguishes this very job on these very data from others."""
    return hashlib.sha256(f"{job.to_yaml()}{data.fingerprint}".encode()).hexdigest()[:12]


def describe_origins(runs: Iterable[Mapping[str, Any]]) -> str:
    """What the runs were made with: a kept run may be older than the table."""
    return f"Runs: {'; '.join(sorted({run['origin'] for run in runs}))}."


def make_parser(text: str | None, seeds: Sequence[int], name: str) -> argparse.ArgumentParser:
    """The command line that the programs that keep their runs have in common."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="data sets as 'adjobs train --data' takes them")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds), help="seeds of the training")
    parser.add_argument(
        "--split-seeds", type=int, nargs="+", default=[0], help="seeds of the split, each with all training seeds"
    )
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the method; repeatable")
    parser.add_argument("--runs", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each run")
    parser.add_argument("--name", default=name, help="name of the file in results/")
    return parser


def parse_variants(parser: argparse.ArgumentParser, variants: Collection[str], default: Sequence[str]) -> argparse.Namespace:
    """Parse the command line with ``--variants``, whose names hold commas and spaces."""
    parser.add_argument(
        "--variants", nargs="*", default=list(default), metavar="VARIANT", help="without a value: size and speed only"
    )
    arguments = parser.parse_args()
    unknown = [variant for variant in arguments.variants if variant not in variants]
    if unknown:
        parser.error(f"--variants: unknown {', '.join(unknown)}; available: {'; '.join(variants)}")
    return arguments


def describe_seeds(arguments: argparse.Namespace) -> str:
    """Which splits and trainings the runs are of."""
    splits, trainings = (", ".join(map(str, seeds)) for seeds in (arguments.split_seeds, arguments.seeds))
    return f"split seeds {splits}, each with training seeds {trainings}"


def write_table(
    arguments: argparse.Namespace,
    title: str,
    about: str,
    runs: Iterable[Mapping[str, Any]],
    head: str,
    rows: Iterable[Sequence[str]],
    left: int,
) -> None:
    """Print and write a page with one table of runs; ``left`` columns are text."""
    body = [about, describe_origins(runs), table(head, rows, left=left)]
    write_result(arguments.name, title, machine(default_device()), body)


def cost_cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Milliseconds per image, seconds of training and peak memory in MiB, means over the runs."""
    digits = {"ms_per_image": 1, "seconds": 0, "peak_mib": 0}
    return [f"{statistics.mean(run[key] for run in runs):.{count}f}" for key, count in digits.items()]


def mean_and_deviation(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation of runs; a dash where a run has no value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    deviation = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.3f}{deviation}"


def slug(variant: str) -> str:
    """A variant's name in the name of a file."""
    return "".join(letter if letter.isalnum() else "-" for letter in variant)
