"""Accuracy of our methods beside anomalib's PatchCore, PaDiM and PatchFlow: same images, split, backbone, pixels and metrics.

    python benchmarks/accuracy.py TILES elpv --runs DIR [--anomalib-python DIR/bin/python] [--set cdo.lr=0.001] [--job JOB]

TILES is the folder of the magnetic tiles, elpv the installed package; any data set that adjobs opens will do. JOB is a job file,
such as those in ``jobs/`` that hold what searches chose. Every run is kept in the folder of runs when it is finished, and not
repeated. The neighbours run in an environment of their own, and without ``--anomalib-python`` they are left out:

    python -m venv DIR && DIR/bin/pip install -r benchmarks/neighbours/requirements.txt

They get the decoded pixels of the normal training images, of the validation and the test images, and the backbone's weights, in
an exchange folder (``neighbours/anomalib_scores.py``); no label. Each of ``--seeds`` draws split, training and neighbours. All
scores and anomaly maps are evaluated by ``adjobs.metrics``. PatchCore's coreset of 1 % is drawn as anomalib draws it. On two busy
cores that took 79 minutes for the 571 normal tiles at 128 px; with ``--patchcore-levels 2 3``, the strides 8 and 16 that its
paper uses, 2 minutes (2026-11-23). PatchFlow learns for ``--patchflow-steps``, whose default was chosen on validation splits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from anomalib_runs import NEIGHBOURS, PATCHFLOW_LEVELS, NeighbourRun, run_neighbours
from report import machine, table, write_result
from runs import cost_cells, describe_origins, mean_and_deviation, run_or_load, slug
from training import (
    BenchmarkData,
    benchmark_job,
    default_device,
    describe_training_images,
    open_data,
    peak_memory,
    train_locally,
)

from adjobs import methods
from adjobs.backbones import DEFAULT_LEVELS, LEVELS
from adjobs.config.job import JobConfig
from adjobs.evaluation.predictions import EVAL_BATCH
from adjobs.evaluation.result import compute_image_metrics, compute_pixel_metrics
from adjobs.metrics.intervals import auroc_interval
from adjobs.types import ImageScores

PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "au_pro")
HEAD = (
    "| data | method | learns from | val: image AUROC | test: image AUROC | image AP | pixel AUROC | pixel AP "
    "| AU-PRO ≤ 0.3 | ms/image | training s | peak MiB |"
)


def evaluate(scores: ImageScores) -> dict[str, Any]:
    """The metrics of a neighbour on the test split; image AUROC with its interval."""
    auroc = auroc_interval(scores.labels, scores.score)
    image_ap = compute_image_metrics(scores)["image_ap"]
    return {"image_auroc": [auroc.value, auroc.low, auroc.high], "image_ap": image_ap, **compute_pixel_metrics(scores)}


def name_of(uri: str) -> str:
    """The data set's name in tables and files: its folder's."""
    return Path(uri.rstrip("/")).name


def train(job: JobConfig, data: BenchmarkData) -> dict[str, Any]:
    """Train one of our methods; returns its metrics and costs."""
    run = train_locally(job, data)
    estimates = run.result.evaluation.estimates
    auroc = estimates["test/image_auroc"]
    n_anomalous = 0 if job.supervision == "none" else data.count("train", "anomalous")
    return {
        "is_ours": True,
        "choice": describe_choice(job, run.detector.manifest.params),
        "training_images": describe_training_images(data.count("train", "normal"), n_anomalous),
        "val": estimates["val/image_auroc"].value,
        "test": {name: estimates[f"test/{name}"].value for name in ("image_ap", *PIXEL_METRICS)}
        | {"image_auroc": [auroc.value, auroc.low, auroc.high]},
        "ms_per_image": run.result.evaluation.ms_per_image,
        "seconds": run.seconds,
        "peak_mib": peak_memory(run.device),
    }


def describe_choice(job: JobConfig, params: Mapping[str, Any]) -> str:
    """What was chosen for a parameter that the job leaves to the data, so that a row holds no two methods."""
    place_param = methods.spec(job.method).place_param
    if place_param is None or job.params[place_param.param] == params[place_param.param]:
        return ""
    return f", {place_param.param} {params[place_param.param]} chosen"


def common_sections(uri: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """What all jobs have in common."""
    data = {
        "uri": uri,
        "protocol": arguments.protocol,
        "max_train_anomalies": arguments.max_train_anomalies,
        "image_size": arguments.size,
        "seed": seed,
    }
    return {"data": data, "train": {"seed": seed}}


def make_jobs(uri: str, seed: int, arguments: argparse.Namespace) -> dict[str, JobConfig]:
    """Jobs by their names in the table: methods as the command line sets them, then those of job files."""
    common = common_sections(uri, seed, arguments)
    jobs = {}
    for name in arguments.methods:
        settings = [setting.removeprefix(f"{name}.") for setting in arguments.set if setting.startswith(f"{name}.")]
        if arguments.epochs is not None and "epochs" in methods.config_class(name).model_fields:
            settings.insert(0, f"epochs={arguments.epochs}")
        jobs[name] = benchmark_job({"method": name, **common}, settings)
    for path in arguments.job:
        document = yaml.safe_load(path.read_text())
        jobs[f"{document['method']}, {path.name}"] = benchmark_job({**common, **{k: document[k] for k in ("method", "params")}})
    return jobs


def run_all(uri: str, seed: int, data: BenchmarkData, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One run after the other, ours first."""
    for title, job in make_jobs(uri, seed, arguments).items():
        name = f"{name_of(uri)}-{slug(title)}-s{seed}"
        run = run_or_load(arguments.runs, name, job, data, train, arguments.threads)
        yield run | {"method": title + run["choice"]}
    if arguments.anomalib_python:
        folder = arguments.runs / f"exchange-{name_of(uri)}-s{seed}"
        yield from map(evaluate_neighbour, run_neighbours(data, folder, seed, arguments))


def evaluate_neighbour(run: NeighbourRun) -> dict[str, Any]:
    """Metrics and costs of a neighbour, as :func:`train` gives those of ours."""
    costs = run._asdict()
    return {"is_ours": False, "test": evaluate(costs.pop("scores")), **costs}


def table_row(name: str, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row of the table: the runs of a method, one of each seed."""
    metrics = [mean_and_deviation([run["test"].get(key) for run in runs]) for key in ("image_ap", *PIXEL_METRICS)]
    first = runs[0]
    val = mean_and_deviation([run["val"] for run in runs])
    return [name, first["method"], first["training_images"], val, format_auroc(runs), *metrics, *cost_cells(runs)]


def format_auroc(runs: Sequence[Mapping[str, Any]]) -> str:
    """Image AUROC on the test split: of one run with its interval, of several mean and deviation."""
    value, low, high = runs[0]["test"]["image_auroc"]
    if len(runs) == 1 and low is not None:
        return f"{value:.3f} ({low:.3f}–{high:.3f})"
    return mean_and_deviation([run["test"]["image_auroc"][0] for run in runs])


def summarise(name: str, by_method: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Our best method beside the best neighbour, and our best that learns from the same images, a sentence each."""

    def auroc(runs: Sequence[Mapping[str, Any]]) -> float:
        return float(np.mean([run["test"]["image_auroc"][0] or 0 for run in runs]))

    neighbour = max((runs for runs in by_method.values() if not runs[0]["is_ours"]), key=auroc, default=None)
    ours = sorted((runs for runs in by_method.values() if runs[0]["is_ours"]), key=auroc, reverse=True)
    if neighbour is None or not ours:
        return f"- {name}: nothing to compare."
    learnt_from = neighbour[0]["training_images"]
    same_images = (runs for runs in ours if runs[0]["training_images"] == learnt_from != ours[0][0]["training_images"])
    best = [ours[0], *islice(same_images, 1)]
    return "\n".join(f"- {name}: {compare(runs, neighbour, auroc(runs) - auroc(neighbour))}." for runs in best)


def compare(runs: Sequence[Mapping[str, Any]], neighbour: Sequence[Mapping[str, Any]], difference: float) -> str:
    """One of our methods and a neighbour, whose image AUROC is lower by ``difference``, in words."""
    direction = "ahead of" if difference > 0 else "behind"
    verdict = "is level with" if abs(difference) < 0.0005 else f"is {abs(difference):.3f} {direction}"
    images = [one[0]["training_images"] for one in (runs, neighbour)]
    supervision = "" if images[0] == images[1] else f"; it learnt from {images[0]}, the other from {images[1]}"
    ours, theirs = (f"{one[0]['method']} {format_auroc(one)}" for one in (runs, neighbour))
    return f"{ours} {verdict} {theirs}{supervision}"


def describe_seeds(seeds: Sequence[int]) -> str:
    """The seeds of a row, in words.

    >>> describe_seeds([0, 1, 2]), describe_seeds([4])
    ('seeds 0, 1, 2 (mean ± deviation)', 'seed 4')
    """
    return f"seeds {', '.join(map(str, seeds))} (mean ± deviation)" if len(seeds) > 1 else f"seed {seeds[0]}"


def describe_strides(levels: Sequence[int]) -> str:
    """Strides of backbone levels, in words."""
    return ", ".join(str(2 ** (level + 1)) for level in levels)


def describe_neighbours(arguments: argparse.Namespace) -> str:
    """Settings of those of anomalib's models that are measured; a sentence, or nothing."""
    if not arguments.anomalib_python or not arguments.neighbours:
        return ""
    settings = {
        "patchcore": f"PatchCore has its strides {describe_strides(arguments.patchcore_levels)}",
        "padim": f"PaDiM has its strides {describe_strides(arguments.padim_levels)}",
        "patchflow": f"PatchFlow has its strides {describe_strides(PATCHFLOW_LEVELS)}, of images at three scales, "
        f"and learns for {arguments.patchflow_steps} steps of 32 images",
    }
    return (
        f"The backbone of anomalib's models is {arguments.backbone} with the weights and the normalisation that adjobs uses; "
        f"{'; '.join(settings[name] for name in arguments.neighbours)}. "
    )


def describe_setup(arguments: argparse.Namespace, all_data: Mapping[str, BenchmarkData]) -> str:
    """What a reader must know to repeat or to doubt the table."""
    datasets = [
        f"{name} {data.count('test', 'normal')} normal and {data.count('test', 'anomalous')} anomalous test images"
        f" ({data.n_invalid} images with problems left out)"
        for name, data in all_data.items()
    ]
    limit = "" if arguments.max_train_anomalies is None else f", K = {arguments.max_train_anomalies},"
    return (
        f"Images stretched to {arguments.size} px, split `{arguments.protocol}`{limit} with {describe_seeds(arguments.seeds)}: "
        f"{'; '.join(datasets)}. "
        f"{describe_neighbours(arguments)}"
        f"ms/image: from uint8 pixels to score and anomaly map in memory, batches of {EVAL_BATCH}, float32. "
        f"Peak: GPU memory, or resident memory of the process."
    )


def describe_ours(arguments: argparse.Namespace, our_runs: Sequence[Mapping[str, Any]]) -> str:
    """How our methods were trained."""
    settings = [*([f"epochs={arguments.epochs}"] if arguments.epochs is not None else []), *arguments.set]
    return (
        f"Training seconds of ours are those of the job without its final evaluation; they include the validation that selects "
        f"a checkpoint, where a method has that rule. "
        f"Parameters of ours, where no job file is named: {', '.join(settings) or 'the defaults'}. "
        f"{describe_origins(our_runs)}"
    )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="data sets as 'adjobs train --data' takes them")
    parser.add_argument("--runs", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each run of ours")
    parser.add_argument("--anomalib-python", help="Python of the environment with anomalib")
    parser.add_argument("--methods", nargs="*", choices=methods.names(), default=methods.names(), help="our methods")
    parser.add_argument("--neighbours", nargs="*", choices=list(NEIGHBOURS), default=list(NEIGHBOURS), help="anomalib's models")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--protocol", default="liac", help="protocol of the split")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the split, the training and the neighbours")
    parser.add_argument("--max-train-anomalies", type=int, metavar="K", help="most labelled anomalies in the training split")
    parser.add_argument("--epochs", type=int, help="epochs of our methods that count them")
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.KEY=VALUE", help="a parameter of one of ours")
    parser.add_argument(
        "--job", action="append", default=[], type=Path, help="add a run with method and parameters of a job file"
    )
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="of the neighbours; of ours: --set METHOD.backbone=")
    for name in ("patchcore", "padim"):
        default = list(LEVELS[:DEFAULT_LEVELS])
        parser.add_argument(f"--{name}-levels", type=int, nargs="+", choices=LEVELS, default=default, metavar="LEVEL")
    parser.add_argument("--padim-features", type=int, help="number of channels that PaDiM draws at random; default: all")
    parser.add_argument("--patchflow-steps", type=int, default=200, help="training steps of PatchFlow, of 32 images each")
    parser.add_argument("--name", default="accuracy", help="name of the file in results/")
    arguments = parser.parse_args()
    for setting in arguments.set:
        if setting.partition(".")[0] not in methods.names() or "=" not in setting:
            parser.error(f"--set: got {setting}, must be METHOD.KEY=VALUE, such as cdo.lr=0.001")
    return arguments


def main() -> None:
    """Train, evaluate, and write the table."""
    arguments = parse_arguments()
    all_data: dict[str, BenchmarkData] = {}
    our_runs: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    summaries: list[str] = []
    for uri in arguments.data:
        name = name_of(uri)
        by_method: dict[str, list[dict[str, Any]]] = {}
        for seed in arguments.seeds:
            data = open_data(benchmark_job({"method": methods.names()[0], **common_sections(uri, seed, arguments)}))
            all_data.setdefault(name, data)
            for run in run_all(uri, seed, data, arguments):
                by_method.setdefault(run["method"], []).append(run)
        our_runs.extend(run for runs in by_method.values() for run in runs if run["is_ours"])
        rows.extend(table_row(name, runs) for runs in by_method.values())
        summaries.append(summarise(name, by_method))
    about_ours = [describe_ours(arguments, our_runs)] if our_runs else []
    body = [describe_setup(arguments, all_data), *about_ours, table(HEAD, rows, left=3)]
    if not arguments.anomalib_python:
        body.append("anomalib was not measured: no --anomalib-python was given.")
    elif our_runs:
        body += ["**Where we stand**, image AUROC on the test split:", "\n".join(summaries)]
    write_result(arguments.name, "Accuracy", machine(default_device()), body)


if __name__ == "__main__":
    main()
