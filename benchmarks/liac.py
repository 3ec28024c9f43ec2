"""LIAC's Tables III and V again: accuracy, F1, AUCPR and AUCROC on validation and test, mean and deviation over several seeds.

    python benchmarks/liac.py TILES elpv --epochs 12 8 --size 128 --runs DIR

TILES is the folder of the magnetic tiles, elpv the installed package. Every run is kept in DIR when it is finished, and not
repeated. The split is the protocol `liac`, by default with one seed for all runs, so that no test image had an influence on
settings that were chosen on its validation split; the runs differ in the seed of initialisation, order and flips. ``--losses``
adds the supervised baselines, a single network each, as in the paper. The paper's figures (``liac_paper.csv``, means of three
runs) stand beside ours.

The paper's F1 is that of the normal class. With n images and accuracy A, F1 = 2a / (2a + n (1 − A)) gives the number a of
correctly classified images of that class: for magnetic tiles and K = 80 (A = 0.926, F1 = 0.936, n = 349) a = 189, but the test
split has 158 anomalies and 191 normal images. All supervised rows of Table III are so; those of Table V mostly fit either class.
Hence the paper's figures stand in the column of that name.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

from runs import (
    cost_cells,
    describe_seeds,
    format_of,
    make_parser,
    mean_and_deviation,
    open_splits,
    run_seeds,
    write_table,
)
from training import BenchmarkData, LocalRun, benchmark_job, peak_memory, train_locally

from adjobs.config.job import JobConfig
from adjobs.evaluation.predictions import EVAL_BATCH
from adjobs.methods.liac.config import Loss
from adjobs.metrics import ranking
from adjobs.types import ImageScores

PAPER = Path(__file__).with_name("liac_paper.csv")
OURS = "logit_inducing"
SPLITS = ("val", "test")
METRICS = ("accuracy", "f1", "f1_normal", "ap", "auroc")
VIEWS = (1, 2, 4)
THRESHOLD = 0.5  # eq. (2)
HEAD = (
    "| data | K | loss | source | val Acc | val F1 | val F1 of normal | val AUCPR | val AUCROC "
    "| test Acc | test F1 | test F1 of normal | test AUCPR | test AUCROC | ms/image | train s | peak MiB |"
)


def compute_metrics(scores: ImageScores) -> dict[str, float | None]:
    """The paper's four metrics, F1 of either class."""
    decisions = scores.score >= THRESHOLD
    return {
        "accuracy": ranking.accuracy(scores.labels, decisions),
        "f1": ranking.f1(scores.labels, decisions),
        "f1_normal": ranking.f1(1 - scores.labels, ~decisions),
        "ap": ranking.average_precision(scores.labels, scores.score),
        "auroc": ranking.auroc(scores.labels, scores.score),
    }


def evaluate(run: LocalRun, views: int) -> dict[str, Any]:
    """The metrics of both splits and the time, with this number of views of each image."""
    method: Any = run.detector.method
    method.config = method.config.model_copy(update={"views": views})
    timed = {split: run.predict(split) for split in SPLITS}
    metrics = {split: compute_metrics(scores.scores) for split, scores in timed.items()}
    return {**metrics, "ms_per_image": timed["test"].ms_per_image}


def train(job: JobConfig, data: BenchmarkData) -> dict[str, Any]:
    """One run."""
    run = train_locally(job, data)
    by_views = {str(views): evaluate(run, views) for views in VIEWS}
    return {
        **by_views[str(job.params["views"])],
        "views": by_views,
        "seconds": run.seconds,
        "peak_mib": peak_memory(run.device),
        "selected_checkpoint": run.result.selected_checkpoint,
    }


class Setting(NamedTuple):
    """What the rows of the table differ in.

    Attributes:
        uri: of the data.
        epochs: on these data.
        k: labelled anomalies in the training split.
        loss: classification loss.
    """

    uri: str
    epochs: int
    k: int
    loss: str


def make_job(arguments: argparse.Namespace, setting: Setting, split_seed: int, seed: int) -> JobConfig:
    """The job of one run; baselines have a single network."""
    params = {"loss": setting.loss, "epochs": setting.epochs, **({} if setting.loss == OURS else {"couple": False})}
    data = {
        "uri": setting.uri,
        "protocol": "liac",
        "max_train_anomalies": setting.k,
        "image_size": arguments.size,
        "seed": split_seed,
    }
    training = {"seed": seed, "validate_every": arguments.validate_every}
    return benchmark_job({"method": "liac", "data": data, "params": params, "train": training}, arguments.set)


def read_paper() -> dict[tuple[str, str, str], dict[tuple[str, str], str]]:
    """The paper's figures: (data, K, loss) to (split, metric) to the figure."""
    figures: dict[tuple[str, str, str], dict[tuple[str, str], str]] = {}
    with PAPER.open(newline="") as file:
        for line in csv.DictReader(file):
            for loss in get_args(Loss):
                figures.setdefault((line["data"], line["k"], loss), {})[line["split"], line["metric"]] = line[loss]
    return figures


def table_row(names: Sequence[str], runs: Sequence[Mapping[str, Any]], views: int | None = None) -> list[str]:
    """Mean and deviation of the runs, with this number of views of each image; None: that of the job."""
    results = [run | run["views"][str(views)] if views else run for run in runs]
    cells = [mean_and_deviation([run[split][metric] for run in results]) for split in SPLITS for metric in METRICS]
    source = f"ours, {len(runs)} runs" + (f", views: {views}" if views else "")
    return [*names, source, *cells, *cost_cells(results)]


def paper_row(names: Sequence[str], figures: Mapping[tuple[str, str], str]) -> list[str]:
    """The paper's figures beside ours."""
    return [*names, "paper", *(figures.get((split, metric), "") for split in SPLITS for metric in METRICS), "", "", ""]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__, (0, 1, 2), "liac")
    parser.add_argument(
        "--max-train-anomalies",
        type=int,
        nargs="+",
        default=[40, 80],
        metavar="K",
        help="labelled anomalies in the training split",
    )
    parser.add_argument("--losses", nargs="*", choices=get_args(Loss), default=[OURS])
    parser.add_argument("--epochs", type=int, nargs="+", default=[100], help="one number for all data sets, or one for each")
    parser.add_argument("--views", action="store_true", help="the same networks with one, two and four views of each image")
    parser.add_argument("--validate-every", type=int, default=1, help="epochs between two validations")
    arguments = parser.parse_args()
    if len(arguments.epochs) == 1:
        arguments.epochs *= len(arguments.data)
    if len(arguments.epochs) != len(arguments.data):
        parser.error(
            f"--epochs: got {len(arguments.epochs)} numbers for {len(arguments.data)} data sets; give one, or one for each"
        )
    return arguments


def main() -> None:
    """Train, evaluate, and write the table."""
    arguments = parse_arguments()
    paper, rows = read_paper(), []
    all_runs: list[dict[str, Any]] = []
    for uri, epochs in zip(arguments.data, arguments.epochs, strict=True):
        for k in arguments.max_train_anomalies:
            splits = open_splits(arguments, partial(make_job, arguments, Setting(uri, epochs, k, OURS)))
            for loss in arguments.losses:
                job_of_seeds = partial(make_job, arguments, Setting(uri, epochs, k, loss))
                runs = run_seeds(arguments, f"{loss}-k{k}", splits, job_of_seeds, train)
                names = [format_of(splits), str(k), loss]
                rows += [table_row(names, runs, views) for views in (VIEWS if arguments.views else [None])]
                all_runs += runs
                figures = paper.get((names[0], names[1], names[2]))
                rows += [paper_row(names, figures)] if figures else []
    lengths = ", ".join(f"{n} for {Path(uri).name}" for uri, n in zip(arguments.data, arguments.epochs, strict=True))
    about = (
        f"Images stretched to {arguments.size} px; epochs: {lengths}; split `liac`; {describe_seeds(arguments)}; "
        f"checkpoint of the best mean F1 of both classes on validation, evaluated every {arguments.validate_every} epochs; "
        f"threshold {THRESHOLD}. Parameters: {', '.join(arguments.set) or 'the defaults'}. "
        f"ms/image: batches of {EVAL_BATCH}, float32. "
        f"The paper: ResNet34, 224 px, 100 epochs; 1.75 ms per image on a Titan V."
    )
    write_table(arguments, "LIAC", about, all_runs, HEAD, rows, left=4)


if __name__ == "__main__":
    main()
