"""LIAC's Tables III and V again: accuracy, F1, AUCPR and AUCROC on validation and test, mean and spread over several seeds.

    python benchmarks/liac.py TILES elpv --epochs 12 8 --size 128 --runs DIR

TILES is the folder of the magnetic tiles, elpv the installed package. Every run is kept in DIR as soon as it is done, and not
repeated. The split is the protocol `liac`, by default with one seed for all runs, so that settings chosen on its validation part
have never seen a test image; the runs differ in the seed of initialisation, order and flips. ``--losses`` adds the supervised
baselines, a single network each, as in the paper. The paper's figures (``liac_paper.csv``, mean of three runs) stand beside ours.

The paper's F1 is that of the normal class. With n images and accuracy A, F1 = 2a / (2a + n (1 − A)) gives the number a of images
rightly put into its class: for magnetic tiles and K = 80 (A = 0.926, F1 = 0.936, n = 349) a = 189, but the test part has 158
anomalies and 191 normal images. All supervised rows of Table III are so; those of Table V mostly fit either class. Hence the
paper's figures stand in the column of that name.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from contenders import Data, Fitted, fit_ours, look, peak_memory
from report import keep, machine, table
from runs import command_line, costs, once, origins, seeds_in_words, spread

from adjobs.config.job import JobConfig
from adjobs.config.resolve import override, resolve
from adjobs.evaluation.evaluate import EVAL_BATCH, DeviceConfig, predict_split
from adjobs.methods.liac.config import Loss
from adjobs.metrics import ranking
from adjobs.types import ImageScores

PAPER = Path(__file__).with_name("liac_paper.csv")
OURS = "logit_inducing"
MEASURES = ("accuracy", "f1", "f1_normal", "ap", "auroc")
VIEWS = (1, 2, 4)
THRESHOLD = 0.5  # eq. (2)
HEAD = (
    "| data | K | loss | source | val Acc | val F1 | val F1 of normal | val AUCPR | val AUCROC "
    "| test Acc | test F1 | test F1 of normal | test AUCPR | test AUCROC | ms/image | train s | peak MiB |"
)


def measured(scores: ImageScores) -> dict[str, float | None]:
    """The paper's four measures, F1 of either class."""
    decisions = scores.score >= THRESHOLD
    return {
        "accuracy": ranking.accuracy(scores.labels, decisions),
        "f1": ranking.f1(scores.labels, decisions),
        "f1_normal": ranking.f1(1 - scores.labels, ~decisions),
        "ap": ranking.average_precision(scores.labels, scores.score),
        "auroc": ranking.auroc(scores.labels, scores.score),
    }


def judged(fitted: Fitted, data: Data, views: int) -> dict[str, Any]:
    """The measures of both parts and the time, with so many views of each picture."""
    method = fitted.method
    method.config = method.config.model_copy(update={"views": views})  # type: ignore[union-attr, operator]
    parts = {"val": data.split.val, "test": data.split.test}
    timed = {p: predict_split(method, fitted.cache, data.index, ids, DeviceConfig(fitted.device)) for p, ids in parts.items()}
    return {**{p: measured(found.scores) for p, found in timed.items()}, "ms_per_image": timed["test"].ms_per_image}


def train(job: JobConfig, data: Data) -> dict[str, Any]:
    """One run."""
    fitted = fit_ours(job, data)
    seen = {str(views): judged(fitted, data, views) for views in VIEWS}
    return {
        **seen[str(job.params["views"])],
        "views": seen,
        "seconds": fitted.seconds,
        "peak_mib": peak_memory(fitted.device),
        "selected_checkpoint": fitted.rounds.selected_checkpoint,
    }


def job_of(uri: str, k: int, loss: str, seeds: tuple[int, int], epochs: int, arguments: argparse.Namespace) -> JobConfig:
    """The job of one run, ``seeds`` those of division and training; baselines have a single network."""
    params = {"loss": loss, "epochs": epochs, **({} if loss == OURS else {"couple": False})}
    data = {"uri": uri, "protocol": "liac", "max_train_anomalies": k, "image_size": arguments.size, "seed": seeds[0]}
    training = {"seed": seeds[1], "validate_every": arguments.validate_every}
    document = {"method": "liac", "data": data, "params": params, "train": training}
    return resolve(override(document, [f"params.{setting}" for setting in arguments.set]))


def paper() -> dict[tuple[str, str, str], dict[tuple[str, str], str]]:
    """The paper's figures: (data, K, loss) to (part, measure) to the figure."""
    found: dict[tuple[str, str, str], dict[tuple[str, str], str]] = {}
    with PAPER.open(newline="") as file:
        for line in csv.DictReader(file):
            for loss in get_args(Loss):
                found.setdefault((line["data"], line["k"], loss), {})[line["part"], line["measure"]] = line[loss]
    return found


def row(name: str, k: int, loss: str, runs: Sequence[Mapping[str, Any]], views: int | None = None) -> list[str]:
    """Mean and spread of the runs, with so many views of each picture."""
    seen = [run | run["views"][str(views)] if views else run for run in runs]
    cells = [spread([run[part][measure] for run in seen]) for part in ("val", "test") for measure in MEASURES]
    said = f"ours, {len(runs)} runs" + (f", views: {views}" if views else "")
    return [name, str(k), loss, said, *cells, *costs(seen)]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, (0, 1, 2), "liac")
    parser.add_argument("--k", type=int, nargs="+", default=[40, 80], help="labelled anomalies in the training part")
    parser.add_argument("--losses", nargs="*", choices=get_args(Loss), default=[OURS])
    parser.add_argument("--epochs", type=int, nargs="+", default=[100], help="one for all data sets, or one for each")
    parser.add_argument("--views", action="store_true", help="the same networks with one, two and four views of each picture")
    parser.add_argument("--validate-every", type=int, default=1, help="epochs between two looks at the validation part")
    arguments = parser.parse_args()
    if len(arguments.epochs) == 1:
        arguments.epochs *= len(arguments.data)
    if len(arguments.epochs) != len(arguments.data):
        parser.error(
            f"--epochs: got {len(arguments.epochs)} numbers for {len(arguments.data)} data sets; give one, or one for each"
        )
    return arguments


def main() -> None:
    """Train, measure, print and keep."""
    arguments = parse()
    known, rows = paper(), []
    every: list[dict[str, Any]] = []
    for uri, epochs in zip(arguments.data, arguments.epochs, strict=True):
        for k in arguments.k:
            divided = {seed: look(uri, "liac", seed, k) for seed in arguments.split_seeds}
            name = divided[arguments.split_seeds[0]].index.format
            for loss in arguments.losses:
                runs = []
                for seeds in product(arguments.split_seeds, arguments.seeds):
                    job, called = job_of(uri, k, loss, seeds, epochs, arguments), f"{name}-{loss}-k{k}-d{seeds[0]}-s{seeds[1]}"
                    runs.append(once(arguments.runs, called, job, divided[seeds[0]], train, arguments.threads))
                rows += [row(name, k, loss, runs, views) for views in (VIEWS if arguments.views else [None])]
                every += runs
                theirs = known.get((name, str(k), loss))
                if theirs:
                    figures = [theirs.get((part, measure), "") for part in ("val", "test") for measure in MEASURES]
                    rows.append([name, str(k), loss, "paper", *figures, "", "", ""])
    lengths = ", ".join(f"{n} for {Path(uri).name}" for uri, n in zip(arguments.data, arguments.epochs, strict=True))
    about = (
        f"Images stretched to {arguments.size} px; epochs: {lengths}; split `liac`; {seeds_in_words(arguments)}; "
        f"checkpoint of the best mean F1 of both classes on validation, seen every {arguments.validate_every} epochs; "
        f"threshold {THRESHOLD}. Parameters: {', '.join(arguments.set) or 'the defaults'}. "
        f"ms/image: batches of {EVAL_BATCH}, float32. "
        f"The paper: ResNet34, 224 px, 100 epochs; 1.75 ms per image on a Titan V."
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep(arguments.name, "LIAC", machine(device), [about, origins(every), table(HEAD, rows, left=4)])


if __name__ == "__main__":
    main()
