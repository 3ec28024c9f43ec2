"""Runs of a long benchmark: each in a process of its own, kept when it is done, and not repeated."""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from contenders import Data
from report import commit

from adjobs.config.job import JobConfig

Work = Callable[[JobConfig, Data], dict[str, Any]]


def once(folder: Path, name: str, job: JobConfig, data: Data, work: Work, threads: int) -> dict[str, Any]:
    """Do the work, unless ``folder`` holds the result of this very job on these very data.

    Args:
        folder: of finished runs.
        name: what the file is called, before a hash of job and data.
        job: the job.
        data: the data.
        work: function at the top of a module; gives what JSON can hold.
        threads: of the process.
    """
    place = folder / f"{name}-{key(job, data)}.json"
    if place.is_file():
        found: dict[str, Any] = json.loads(place.read_text())
        return found
    print(place.stem, file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    origin = f"commit {commit()} with {threads} threads"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        result = pool.submit(work, job, data).result() | {"origin": origin}
    unfinished = place.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(result))
    unfinished.rename(place)
    return result


def key(job: JobConfig, data: Data) -> str:
    """What tells this very job on these very data from others."""
    return hashlib.sha256(f"{job.to_yaml()}{data.fingerprint}".encode()).hexdigest()[:12]


def origins(runs: Iterable[Mapping[str, Any]]) -> str:
    """What the runs were made with: a kept run may be older than the table."""
    return f"Runs: {'; '.join(sorted({run['origin'] for run in runs}))}."


def command_line(text: str | None, seeds: Sequence[int], name: str) -> argparse.ArgumentParser:
    """What the programs that keep their runs have in common."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="data sets as 'adjobs train --data' takes them")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds), help="of the training")
    parser.add_argument("--split-seeds", type=int, nargs="+", default=[0], help="of the division; each with all training seeds")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the method")
    parser.add_argument("--runs", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of each run")
    parser.add_argument("--name", default=name, help="of the file in results/")
    return parser


def seeds_in_words(arguments: argparse.Namespace) -> str:
    """Which divisions and trainings the runs are of."""
    divisions, trainings = (", ".join(map(str, seeds)) for seeds in (arguments.split_seeds, arguments.seeds))
    return f"split seeds {divisions}, each with training seeds {trainings}"


def costs(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Milliseconds per image, seconds of training and peak memory in MiB, means over the runs."""
    digits = {"ms_per_image": 1, "seconds": 0, "peak_mib": 0}
    return [f"{statistics.mean(run[key] for run in runs):.{places}f}" for key, places in digits.items()]


def spread(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation of runs; a dash where a run has no value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    deviation = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.3f}{deviation}"


def slug(variant: str) -> str:
    """A variant's name for a file."""
    return "".join(letter if letter.isalnum() else "-" for letter in variant)
