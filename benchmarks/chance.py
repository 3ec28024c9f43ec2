"""What chance does to a training: the same job with several seeds, each with one and with more threads.

    python benchmarks/chance.py elpv --set epochs=3 --runs DIR

Threads add up numbers in another order, which differs in the last bit. Training multiplies such differences, so that another
number of threads is like a little of another seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import stdev
from typing import Any

import numpy as np
from runs import describe_seeds, format_of, make_parser, open_splits, run_or_load, write_table
from training import BenchmarkData, benchmark_job, train_locally

from adjobs.config.job import JobConfig

SPLITS = ("val", "test")
HEAD = "| data | split | threads | image AUROC by seed | deviation over seeds | mean distance to 1 thread, same seed |"


def train(job: JobConfig, data: BenchmarkData) -> dict[str, Any]:
    """The image AUROC of each split."""
    metrics = train_locally(job, data).result.metrics
    return {split: metrics[f"{split}/image_auroc"] for split in SPLITS}


def rows(
    name: str, runs: Mapping[tuple[int, int], Mapping[str, float]], threads: Sequence[int], seeds: Sequence[int]
) -> list[list[str]]:
    """For each split and number of threads: the values, their spread, and how far they are from those of one thread.

    Args:
        name: of the data.
        runs: the metrics by number of threads and seed.
        threads: the numbers of threads, the first to compare with.
        seeds: of the trainings.
    """
    table = []
    for split, count in product(SPLITS, threads):
        values = np.array([runs[count, seed][split] for seed in seeds])
        first = np.array([runs[threads[0], seed][split] for seed in seeds])
        deviation = f"{stdev(values):.4f}" if len(seeds) > 1 else "–"
        distance = "" if count == threads[0] else f"{np.abs(values - first).mean():.4f}"
        table.append([name, split, str(count), ", ".join(f"{value:.4f}" for value in values), deviation, distance])
    return table


def main() -> None:
    """Train what is missing and write the table."""
    parser = make_parser(__doc__, (0, 1, 2), "chance")
    parser.add_argument("--method", default="cdo")
    parser.add_argument("--thread-counts", type=int, nargs="+", default=[1, 2], help="the first is what others are compared with")
    arguments = parser.parse_args()
    table: list[list[str]] = []
    origins: list[Mapping[str, Any]] = []
    for uri in arguments.data:

        def make_job(split_seed: int, seed: int, uri: str = uri) -> JobConfig:
            data = {"uri": uri, "image_size": arguments.size, "seed": split_seed}
            return benchmark_job({"method": arguments.method, "data": data, "train": {"seed": seed}}, arguments.set)

        splits = open_splits(arguments, make_job)
        for split_seed, data in splits.items():
            runs = {}
            for count, seed in product(arguments.thread_counts, arguments.seeds):
                name = f"{data.dataset.format}-{arguments.method}-d{split_seed}-s{seed}-t{count}"
                runs[count, seed] = run_or_load(arguments.runs, name, make_job(split_seed, seed), data, train, count)
            table += rows(f"{format_of(splits)}, {split_seed}", runs, arguments.thread_counts, arguments.seeds)
            origins += runs.values()
    about = (
        f"{arguments.method}, {arguments.size} px, protocol `holdout`; {describe_seeds(arguments)}. Parameters: "
        f"{', '.join(arguments.set) or 'defaults'}."
    )
    write_table(arguments, "Chance", about, origins, HEAD, table, left=4)


if __name__ == "__main__":
    main()
