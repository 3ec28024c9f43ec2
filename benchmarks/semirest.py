"""SemiREST: its levels of supervision beside the distance to its memory bank, its elements one by one, speed and size.

    python benchmarks/semirest.py TILES --size 128 --runs DIR --set coreset_ratio=0.01

Every level learns from the same ten anomalies of protocol ``budget``, or from none of them; all are tested on the same images.
Runs with boxes, and those "after none", continue the unsupervised run of the same seed, whose detector is kept in DIR.
"Nearest" is the distance to the memory bank of the unsupervised run: PatchCore's score, and what the method starts from;
"network alone" is the network's probability, which is the paper's score, where the method's adds the two. The paper's figures are
means over the categories of MVTec AD, which are other images. Validation figures stand beside those of the test split, since a
choice must not use the test split.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from box_labels import describe_labels
from report import machine, table, write_result
from runs import (
    Splits,
    cost_cells,
    describe_origins,
    describe_seeds,
    format_of,
    make_parser,
    mean_and_deviation,
    open_splits,
    parse_variants,
    run_key,
    run_or_load,
    run_seeds,
)
from torch import nn
from training import BenchmarkData, benchmark_job, default_device, keep_detector, latency, peak_memory, train_locally

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.evaluation.result import compute_pixel_metrics
from adjobs.metrics import ranking
from adjobs.types import Prediction

PAPER_MEMORY, PAPER_SIZE = 81_920, 512  # a tenth of the 64 × 64 tokens of 200 images, which is what a category of MVTec AD has
SPLITS = ("val", "test")
METRICS = ("pixel_ap", "au_pro", "pixel_auroc", "image_auroc")


class Variant(NamedTuple):
    """A level of supervision, with changes of its defaults.

    Attributes:
        level: of supervision.
        params: what is changed.
        paper: pixel AP, AU-PRO and pixel AUROC on MVTec AD (Table 7); nan for what it does not give.
        starts_unsupervised: start from memory bank and network of the run without labels.
    """

    level: str
    params: Mapping[str, Any] = MappingProxyType({})
    paper: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    starts_unsupervised: bool = False


def boxes(paper: tuple[float, float, float] = (np.nan, np.nan, np.nan), **params: Any) -> Variant:
    """A variant with boxes, which always refines."""
    return Variant("boxes", params, paper, starts_unsupervised=True)


VARIANTS = {
    "none": Variant("none", paper=(0.812, 0.975, 0.993)),
    "none, twice": Variant("none", starts_unsupervised=True),
    "masks": Variant("masks", paper=(0.844, 0.981, 0.995)),
    "masks, after none": Variant("masks", starts_unsupervised=True),
    "masks, refined as boxes": Variant(
        "masks",
        {"steps": 250, "lr": 3e-4, "normal_per_batch": 3, "simulated_per_batch": 3, "window_fraction": 0.25},
        starts_unsupervised=True,
    ),
    "blocks": Variant("blocks"),
    "boxes": boxes((0.838, 0.981, 0.995)),
    "none, residuals without square (abs)": Variant("none", {"residual_distance": "abs"}, (0.764, np.nan, np.nan)),
    "none, no position": Variant("none", {"position_weight": 0.0}),
    "none, nearest neighbour only": Variant("none", {"nearest_probability": 1.0, "two_nearest_probability": 1.0}),
    "none, residuals not scaled": Variant("none", {"target_mean_residual": None}),
    "boxes, prior 0.5": boxes(box_anomalous_prior=0.5),
    "boxes, pseudo-labels not aligned": boxes(box_anomalous_prior=None),
    "boxes, MixUp": boxes(mixup=True),
    "boxes, mean of unknown tokens of its own": boxes(separate_unknown_mean=True),
    "boxes, as published": boxes(
        mixup=True, separate_unknown_mean=True, box_anomalous_prior=None, unknown_weight=5.0, score="network"
    ),
    "boxes, unknown tokens left out": boxes((0.807, 0.975, 0.993), unknown_weight=0.0, token_dropout=0.0),
    "boxes, no dropout": boxes((0.821, 0.978, 0.994), token_dropout=0.0),
}
PAPER = [f"{name}={value if value is not None else 'null'}" for name, value in methods.presets("semirest")["paper"].items()]
HEAD = (
    "| data | variant | runs | paper: pixel AP | AU-PRO | pixel AUROC | val: pixel AP | AU-PRO | pixel AUROC | image AUROC "
    "| test: pixel AP | AU-PRO | pixel AUROC | image AUROC | ms at batch 1 | s of training | peak MiB |"
)
PAIRED_HEAD = (
    "| data | differences of the same split and seed | pairs | val: pixel AP | AU-PRO | pixel AUROC | image AUROC "
    "| test: pixel AP | AU-PRO | pixel AUROC | image AUROC | pixel AP of each pair: val | test |"
)
PAIRS = (
    *(("none", "nearest"), ("none", "none, network alone"), ("none, network alone", "nearest")),
    *(("none, twice", "nearest"), ("none, twice", "none")),
    *(("masks", "masks, network alone"), ("boxes", "boxes, network alone")),
    *(("boxes", "none"), ("masks", "none"), ("masks", "boxes")),
    *(("masks, after none", "none, twice"), ("masks, after none", "boxes"), ("masks, after none", "masks")),
    *(("masks, refined as boxes", "none"), ("masks, refined as boxes", "boxes")),
)


class Distance(nn.Module):
    """The distance to the memory bank of a trained method, as a method of its own."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method

    def predict(self, images: torch.Tensor) -> Prediction:
        """Distances as the anomaly map, and their maximum as the score."""
        maps = self.method.distances(images)
        return Prediction(maps.flatten(1).amax(1), maps)


def network_alone(method: Any) -> nn.Module:
    """The method with the network's probability as its score; the networks are the same."""
    other: nn.Module = copy.copy(method)
    other.config = method.config.model_copy(update={"score": "network"})
    return other


ALONE = {"distance": Distance, "network": network_alone}


def train(job: JobConfig, data: BenchmarkData, keep_in: Path | None = None) -> dict[str, Any]:
    """One run, and the metrics of what its score adds up: the distance to its memory bank, and its network.

    Args:
        job: the job.
        data: its data.
        keep_in: folder in which the detector is kept for other runs to start from; None: it is not kept.
    """
    run = train_locally(job, data)
    if keep_in is not None:
        keep_detector(run, detector_folder(keep_in, job, data))
    method: Any = run.detector.method
    metrics, size = run.result.metrics, job.data.image_size
    alone: dict[str, Any] = {}
    for name, make in ALONE.items():
        scorer = make(method)
        for split in SPLITS:
            scores = run.predict(split, scorer).scores
            image_auroc = ranking.auroc(scores.labels, scores.score)
            alone[f"{name}_{split}"] = {**compute_pixel_metrics(scores), "image_auroc": image_auroc}
        alone[f"{name}_ms_1"] = latency(scorer, size, 1, run.device)
    ms = latency(method, size, 1, run.device)
    return {
        **{split: {name: metrics[f"{split}/{name}"] for name in METRICS} for split in SPLITS},
        **alone,
        "ms_1": ms,
        "memory_tokens": len(method.memory.tokens),
        "ms_per_image": ms,
        "seconds": run.seconds,
        "peak_mib": peak_memory(run.device),
    }


def detector_folder(runs: Path, job: JobConfig, data: BenchmarkData) -> Path:
    """Where the detector of an unsupervised job is kept."""
    return runs / f"unsupervised-{run_key(job, data)}"


def make_job(arguments: argparse.Namespace, uri: str, variant: str, split_seed: int, seed: int) -> JobConfig:
    """The job of one run; a variant's parameters take precedence over the command line's."""
    data = {"uri": uri, "protocol": "budget", "image_size": arguments.size, "seed": split_seed}
    document = {"method": "semirest", "data": data, "train": {"seed": seed}}
    level, params, *_ = VARIANTS[variant]
    return benchmark_job(document, arguments.set, params={"supervision": level, **params})


def run_variant(arguments: argparse.Namespace, uri: str, variant: str, splits: Splits) -> list[dict[str, Any]]:
    """The runs of a variant, by split and seed."""
    train_and_keep = partial(train, keep_in=arguments.runs)
    if not VARIANTS[variant].starts_unsupervised:
        job_of_seeds = partial(make_job, arguments, uri, variant)
        return run_seeds(arguments, variant, splits, job_of_seeds, train_and_keep if variant == "none" else train)

    def warm_started(split_seed: int, seed: int) -> JobConfig:
        first, data = make_job(arguments, uri, "none", split_seed, seed), splits[split_seed]
        name = f"{data.dataset.format}-none-d{split_seed}-s{seed}"
        run_or_load(arguments.runs, name, first, data, train_and_keep, arguments.threads)
        job, folder = make_job(arguments, uri, variant, split_seed, seed), detector_folder(arguments.runs, first, data)
        return job.model_copy(update={"params": {**job.params, "unsupervised_from": str(folder)}})

    return run_seeds(arguments, variant, splits, warm_started, train)


def table_row(names: Sequence[str], paper: Sequence[float], runs: Sequence[Mapping[str, Any]], prefix: str = "") -> list[str]:
    """Mean and deviation of the runs; ``paper`` has nan for what it does not give."""
    printed = ["" if np.isnan(value) else f"{value:.3f}" for value in paper]
    cells = [mean_and_deviation([run[prefix + split][name] for run in runs]) for split in SPLITS for name in METRICS]
    speed = f"{np.mean([run[f'{prefix}ms_1'] for run in runs]):.1f}"
    return [*names, str(len(runs)), *printed, *cells, speed, *(["", ""] if prefix else cost_cells(runs)[1:])]


def paired_rows(name: str, by_variant: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """Differences between levels, each run beside that of the same split and seed: splits differ more than levels do.

    Args:
        name: of the data.
        by_variant: a variant to its runs, all in one order of splits and seeds; their metrics in ``val`` and ``test``.
    """
    rows = []
    for more, less in PAIRS:
        if {more, less} <= by_variant.keys():
            pairs = list(zip(by_variant[more], by_variant[less], strict=True))
            gains = {(split, name): [a[split][name] - b[split][name] for a, b in pairs] for split in SPLITS for name in METRICS}
            pixel_ap = [", ".join(f"{gain:+.3f}" for gain in gains[split, METRICS[0]]) for split in SPLITS]
            rows.append([name, f"{more} − {less}", str(len(pairs)), *map(mean_and_deviation, gains.values()), *pixel_ap])
    return rows


def alone_in(runs: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """The metrics of ``distance`` or ``network`` of these runs, as those of runs of their own."""
    return [{split: run[f"{name}_{split}"] for split in SPLITS} for run in runs]


def describe_networks(settings: Sequence[str], size: int, memory: int, repeats: int) -> str:
    """Milliseconds per image with and without bagging, with random weights and memory, and the numbers of parameters."""
    config = benchmark_job({"method": "semirest", "data": {"uri": "x"}}, settings).method_config()
    device, milliseconds = default_device(), []
    for bagging in (True, False):
        config = config.model_copy(update={"bagging": bagging, "weights": "none"})
        method: Any = methods.load("semirest").build(config, image_size=size, seed=0).to(device)
        tokens = torch.randn(memory, method.memory.tokens.shape[1], generator=torch.Generator().manual_seed(0))
        method.memory.set_tokens(tokens, torch.zeros(memory))
        milliseconds.append(f"{latency(method, size, 1, device, repeats):.0f}")
    millions = [sum(p.numel() for p in module.parameters()) / 1e6 for module in (method.features, method.network)]
    return (
        f"at {size} px with {memory:,} tokens in memory {milliseconds[0]} ms with bagging, {milliseconds[1]} without; "
        f"{millions[0]:.2f} M parameters of features, {millions[1]:.2f} M of the network"
    )


def describe_speed(arguments: argparse.Namespace, memory: int) -> str:
    """Speed and size of these networks and of the paper's."""
    sentences = [f"These networks {describe_networks(arguments.set, arguments.size, memory, repeats=5)}."]
    if arguments.paper_speed:
        sentences.append(f"The paper's networks here {describe_networks(PAPER, PAPER_SIZE, PAPER_MEMORY, repeats=1)}.")
    sentences.append("The paper, on an RTX 4090: 119.7 ms with bagging, 44.2 without; 49.73 M and 51.44 M parameters.")
    return " ".join(sentences)


def main() -> None:
    """Train, evaluate, and write the tables."""
    parser = make_parser(__doc__, (0, 1), "semirest")
    parser.add_argument("--paper-speed", action="store_true", help="time the paper's networks at their size, too")
    arguments = parse_variants(parser, VARIANTS, default=list(VARIANTS))
    rows, paired, all_runs, notes = [], [], [], []
    for uri in arguments.data:
        splits = open_splits(arguments, partial(make_job, arguments, uri, "none"))
        name, by_variant = format_of(splits), {}
        for variant in arguments.variants:
            runs = by_variant[variant] = run_variant(arguments, uri, variant, splits)
            unprinted = (np.nan,) * 3
            if variant == "none":
                by_variant["nearest"] = alone_in(runs, "distance")
                rows.append(table_row([name, "nearest, the same memory"], unprinted, runs, "distance_"))
            paper = VARIANTS[variant].paper
            if VARIANTS[variant].params.get("score") != "network":
                by_variant[f"{variant}, network alone"] = alone_in(runs, "network")
                rows.append(table_row([name, f"{variant}, network alone"], paper, runs, "network_"))
                paper = unprinted
            rows.append(table_row([name, variant], paper, runs))
            all_runs += runs
        paired += paired_rows(name, by_variant)
        notes += describe_labels(splits, arguments.size)
    torch.set_num_threads(arguments.threads)
    memory_sizes = sorted({run["memory_tokens"] for run in all_runs})
    about = (
        f"Images stretched to {arguments.size} px; protocol `budget`; {describe_seeds(arguments)}. Parameters: "
        f"{', '.join(arguments.set) or 'the defaults'}; tokens in memory {memory_sizes}. "
        "ms: one image, float32, from floats in memory to score and anomaly map."
    )
    tables = [about, describe_origins(all_runs), *notes, table(HEAD, rows, left=2)] if rows else []
    tables += [table(PAIRED_HEAD, paired, left=2)] if paired else []
    memory = all_runs[0]["memory_tokens"] if all_runs else PAPER_MEMORY // 100
    body = [*tables, describe_speed(arguments, memory)]
    write_result(arguments.name, "SemiREST", machine(default_device()), body)


if __name__ == "__main__":
    main()
