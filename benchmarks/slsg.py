"""SLSG on magnetic tiles and on drawn trays: its elements one by one (the paper's Tables 4 to 7), speed and size.

    python examples/scenes.py TRAYS --normal 400 --anomalous 200
    python benchmarks/slsg.py TILES:liac TRAYS:holdout --size 128 --runs DIR --set width=16 --set steps=1000

Data are given with the protocol that splits them. Logical and structural anomalies are distinguished where the data do (MVTec
LOCO AD and the drawn trays, which have its layout); all defects of the tiles are structural. Variants that differ only in the
second stage start from one and the same inpainting, which is kept in DIR like every finished run; its seconds are given above the
table. The paper's ablations are means over five categories of LOCO, image AUROC of structural and logical anomalies and of both.
Validation figures stand beside those of the test split, since a choice between variants must not use the test split. A second
table, of the validation split alone, says of variants with the distance what scores: the network, the distance of the encoder's
features, or their sum with several weights.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from training import (
    BenchmarkData,
    LocalRun,
    benchmark_job,
    default_device,
    keep_detector,
    latency,
    peak_memory,
    train_locally,
)

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.evaluation.result import compute_pixel_metrics
from adjobs.methods.slsg.config import INPAINTING_PARAMS
from adjobs.metrics import ranking
from adjobs.types import Batch, ImageScores

PAPER_SIZE = 256  # pixels
SPLITS = ("val", "test")
KINDS = {"logical": "logical_anomalies", "structural": "structural_anomalies"}
PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "au_pro")
IMAGENET = "T4: ImageNet"  # only on request: requires width 64 and the weights of ResNet18
# Changes of the default, with the paper's image AUROC (structural, logical, all) of each on LOCO.
VARIANTS: dict[str, tuple[dict[str, Any], tuple[float, float, float]]] = {
    "paper": ({}, (0.914, 0.896, 0.903)),
    "default: a backbone in the encoder's place": ({"pretrain": "backbone"}, (np.nan, np.nan, np.nan)),
    "paper, the distance added": ({"score": "combined"}, (np.nan, np.nan, np.nan)),
    "T4: no large masks": ({"large_masks": 0}, (0.911, 0.856, 0.877)),
    "T4: 4 cells a side": ({"grid_size": 4}, (0.849, 0.866, 0.851)),
    "T4: 60 % masked": ({"mask_ratio": 0.6}, (0.894, 0.884, 0.886)),
    IMAGENET: ({"pretrain": "imagenet"}, (0.846, 0.755, 0.792)),
    "no pretraining": ({"pretrain": "none"}, (np.nan, np.nan, np.nan)),
    "T5: logical only": ({"logical_fraction": 1}, (0.850, 0.876, 0.861)),
    "T5: structural only": ({"logical_fraction": 0}, (0.906, 0.858, 0.880)),
    "T5: no foreground": ({"foreground": "everything"}, (0.908, 0.886, 0.892)),
    "Otsu's foreground": ({"foreground": "auto"}, (np.nan, np.nan, np.nan)),
    "T5: rectangles": ({"mask_shape": "rectangles"}, (0.896, 0.881, 0.878)),
    "T6: U-Net": ({"bottleneck_skip": False, "self_attention": False, "graph": False}, (0.899, 0.846, 0.867)),
    "T6: no SG block": ({"self_attention": False, "graph": False}, (0.875, 0.865, 0.868)),
    "T6: attention only": ({"graph": False}, (0.883, 0.876, 0.875)),
    "T6: graph only": ({"self_attention": False}, (0.876, 0.885, 0.877)),
    "T6: positions left in": ({"subtract_position_similarity": False}, (0.912, 0.882, 0.889)),
    "T6: K = 7": ({"neighbours": 7}, (0.915, 0.885, 0.894)),
    "T6: K = 11": ({"neighbours": 11}, (0.906, 0.896, 0.898)),
    "T7: no L1": ({"alpha_l1": 0}, (0.885, 0.868, 0.872)),
    "T7: no focal": ({"alpha_focal": 0}, (0.873, 0.875, 0.868)),
    "T7: no auxiliary": ({"alpha_aux": 0}, (0.916, 0.876, 0.891)),
}
WEIGHTS = (0.25, 0.5, 1, 2)  # of the network's logit in the sum
SCORES_HEAD = (
    "| data | variant | what scores | runs | val AUROC: all | structural | logical | pixel AUROC | pixel AP | AU-PRO ≤ 0.3 |"
)
HEAD = (
    "| data | variant | runs | paper: structural | logical | all | val AUROC: all | structural | logical | test AUROC: all "
    "| structural | logical | pixel AUROC | pixel AP | AU-PRO ≤ 0.3 | ms at batch 1 | at 16 | s of stage 2 | peak MiB |"
)


def aurocs(scores: ImageScores) -> dict[str, float | None]:
    """Image AUROC of all anomalies, and of each kind beside all normal images."""
    values = {"all": ranking.auroc(scores.labels, scores.score)}
    types = np.array(scores.defects)
    for kind, name in KINDS.items():
        is_in = (scores.labels == 0) | (types == name)
        values[kind] = ranking.auroc(scores.labels[is_in], scores.score[is_in]) if (types == name).any() else None
    return values


def compare_scores(run: LocalRun) -> dict[str, dict[str, float | None]]:
    """Validation metrics of the network alone, of the distance alone, and of sums of both; none if the run has no distance."""
    method: Any = copy.deepcopy(run.detector.method)
    if method.distance is None:
        return {}
    compared = {}
    for name, weight in {"distance": 0.0, **{f"distance + {weight} × network": weight for weight in WEIGHTS}}.items():
        method.distance.network_weight = weight
        compared[name] = validate(run, method)
    method.distance = None
    return {"network": validate(run, method), **compared}


def validate(run: LocalRun, method: nn.Module) -> dict[str, float | None]:
    """Metrics of a method on the validation split of a run."""
    scores = run.predict("val", method).scores
    pixels = {} if scores.complete_masks is None else compute_pixel_metrics(scores)
    return {**aurocs(scores), **{name: pixels.get(name) for name in PIXEL_METRICS}}


def train(job: JobConfig, data: BenchmarkData) -> dict[str, Any]:
    """One run; it starts with the detector that ``pretrain_from`` names, if it names one."""
    run = train_locally(job, data)
    return {
        **{split: aurocs(run.scores(split)) for split in SPLITS},
        **{name: run.result.metrics[f"test/{name}"] for name in PIXEL_METRICS},
        **{f"ms_{batch}": latency(run.detector.method, job.data.image_size, batch, run.device) for batch in (1, 16)},
        "ms_per_image": run.result.evaluation.ms_per_image,
        "seconds": run.seconds,
        "peak_mib": peak_memory(run.device),
        "scores": compare_scores(run),
    }


def inpaint(job: JobConfig, data: BenchmarkData, folder: Path) -> dict[str, Any]:
    """Train the first stage, and a single step of the second; the detector is kept in ``folder``."""
    run = train_locally(job, data)
    keep_detector(run, folder)
    return {"seconds": run.seconds}


def make_job(arguments: argparse.Namespace, uri: str, protocol: str, variant: str, split_seed: int, seed: int) -> JobConfig:
    """The job of one run, with its own inpainting; a variant's parameters take precedence over the command line's."""
    data = {"uri": uri, "protocol": protocol, "image_size": arguments.size, "seed": split_seed}
    document = {"method": "slsg", "data": data, "train": {"seed": seed}}
    return benchmark_job(document, arguments.set, params={"pretrain": "gpt", **VARIANTS[variant][0]})


def run_variant(
    arguments: argparse.Namespace, uri: str, protocol: str, variant: str, splits: Splits
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The runs of a variant, and those of the inpainting that they start from."""
    inpaintings = []

    def job_of_seeds(split_seed: int, seed: int) -> JobConfig:
        job, data = make_job(arguments, uri, protocol, variant, split_seed, seed), splits[split_seed]
        if job.params["pretrain"] != "gpt":
            return job
        params = {name: job.params[name] for name in ("pretrain", *INPAINTING_PARAMS)}
        first = benchmark_job({**job.model_dump(include={"method", "data", "train"}), "params": {**params, "steps": 1}})
        name = f"{data.dataset.format}-inpainting-d{split_seed}-s{seed}"
        folder = arguments.runs / f"{name}-{run_key(first, data)}"
        inpaintings.append(run_or_load(arguments.runs, name, first, data, partial(inpaint, folder=folder), arguments.threads))
        return job.model_copy(update={"params": {**job.params, "pretrain_from": str(folder)}})

    return run_seeds(arguments, f"{protocol}-{variant}", splits, job_of_seeds, train), inpaintings


def table_row(names: Sequence[str], paper: Sequence[float], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mean and deviation of the runs; ``paper`` has nan for what it does not give."""
    printed = ["" if np.isnan(value) else f"{value:.3f}" for value in paper]
    kinds = ("all", "structural", "logical")
    cells = [mean_and_deviation([run[split][kind] for run in runs]) for split in SPLITS for kind in kinds]
    pixels = [mean_and_deviation([run[name] for run in runs]) for name in PIXEL_METRICS]
    speed = [f"{np.mean([run[name] for run in runs]):.1f}" for name in ("ms_1", "ms_16")]
    return [*names, str(len(runs)), *printed, *cells, *pixels, *speed, *cost_cells(runs)[1:]]


def score_rows(names: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of the table of what scores: mean and deviation of the runs."""
    metrics = ("all", "structural", "logical", *PIXEL_METRICS)
    compared = [run["scores"] for run in runs if run["scores"]]
    return [
        [
            *names,
            score,
            str(len(compared)),
            *(mean_and_deviation([scores[score][name] for scores in compared]) for name in metrics),
        ]
        for score in (compared[0] if compared else ())
    ]


def parse_arguments() -> argparse.Namespace:
    """The command line; data become pairs of URI and protocol."""
    parser = make_parser(__doc__, (0, 1, 2), "slsg")
    arguments = parse_variants(parser, VARIANTS, default=[variant for variant in VARIANTS if variant != IMAGENET])
    arguments.data = [tuple(text.rsplit(":", 1)) for text in arguments.data]
    if any(len(pair) != 2 for pair in arguments.data):
        parser.error("data: give each as DATA:PROTOCOL, such as TILES:liac")
    return arguments


def main() -> None:
    """Train, evaluate, and write the table."""
    arguments = parse_arguments()
    rows, compared, all_runs, all_inpaintings = [], [], [], []
    for uri, protocol in arguments.data:
        splits = open_splits(arguments, partial(make_job, arguments, uri, protocol, "paper"))
        for variant in arguments.variants:
            runs, inpaintings = run_variant(arguments, uri, protocol, variant, splits)
            paper = VARIANTS[variant][1] if format_of(splits) == "loco" else (np.nan,) * 3
            names = [f"{format_of(splits)}, {protocol}", variant]
            rows.append(table_row(names, paper, runs))
            compared += score_rows(names, runs)
            all_runs += runs
            all_inpaintings += inpaintings
    seconds = sorted({round(run["seconds"]) for run in all_inpaintings})
    sizes = f"Parameters: {', '.join(arguments.set) or 'the defaults'}. {describe_networks(arguments)}"
    published = "The paper, 256 px on a GTX 1080 Ti: 54.2 ms at batch 1, 18.5 at 16; 20.46 M parameters."
    about = (
        f"Images stretched to {arguments.size} px; {describe_seeds(arguments)}. Seconds of each inpainting: "
        f"{', '.join(map(str, seconds)) or 'none'}. ms: per image, float32, from floats in memory to score and anomaly map."
    )
    trained = [about, describe_origins(all_runs), table(HEAD, rows, left=2)] if rows else []
    if compared:
        trained += ["On the validation split, what scores:", table(SCORES_HEAD, compared, left=3)]
    write_result(arguments.name, "SLSG", machine(default_device()), [f"{sizes} {published}", *trained])


def describe_networks(arguments: argparse.Namespace) -> str:
    """Parameters for inference and for training only, and the cost of simulating anomalies in a step at the paper's size."""
    config = benchmark_job({"method": "slsg", "preset": "paper", "data": {"uri": "x"}}, arguments.set).method_config()
    method: Any = methods.load("slsg").build(config, image_size=PAPER_SIZE, seed=0)
    total = sum(p.numel() for p in method.parameters())
    training_only = (method.inpainter.decoder, method.inpainter.coarse, method.inpainter.discriminator)
    training = sum(p.numel() for module in training_only for p in module.parameters())
    ms = [latency(method, PAPER_SIZE, batch, torch.device("cpu")) for batch in (1, 16)]
    simulation_ms, step_ms = step_times(method)
    return (
        f"{(total - training) / 1e6:.2f} M parameters for inference, {training / 1e6:.2f} M for inpainting only. "
        f"A step of 4 + 4 images at {PAPER_SIZE} px on the processor: {step_ms:.0f} ms, {simulation_ms:.0f} ms of it to simulate "
        f"({simulation_ms / step_ms:.1%}). Prediction on it: {ms[0]:.0f} ms per image at batch 1, {ms[1]:.0f} at 16."
    )


def step_times(method: Any, count: int = 8) -> tuple[float, float]:
    """Milliseconds of simulating anomalies, and of a whole step of the second stage; medians of five."""
    stage = method.stages()[-1]
    optimizer, milliseconds = stage.optimizer(), []
    generator = torch.Generator().manual_seed(0)
    images, empty = torch.rand(count, 3, PAPER_SIZE, PAPER_SIZE), torch.zeros(count, 1, PAPER_SIZE, PAPER_SIZE, dtype=torch.bool)
    indices = torch.arange(count)
    batch = Batch(
        images, torch.zeros(count).long(), empty, empty, indices >= count // 2, indices, generator, slice(count // 2, count)
    )
    stage.module.train()
    for _ in range(6):
        started_at = time.perf_counter()
        method.simulate(batch)
        simulated_at = time.perf_counter()
        loss = stage.module(batch)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        milliseconds.append((1000 * (simulated_at - started_at), 1000 * (time.perf_counter() - simulated_at)))
    simulation_ms, step_ms = np.median(milliseconds[1:], 0)
    return float(simulation_ms), float(step_ms)


if __name__ == "__main__":
    main()
