"""SLSG on magnetic tiles and on drawn trays: its parts one by one (the paper's Tables 4 to 7), speed and size.

    python examples/scenes.py TRAYS --normal 400 --anomalous 200
    python benchmarks/slsg.py TILES:liac TRAYS:holdout --size 128 --runs DIR --set width=16 --set steps=1000

Data are given with the protocol that divides them. Logical and structural anomalies are told apart where the data do (MVTec LOCO
AD and the drawn trays, which have its layout); all defects of the tiles are structural. Variants that differ in the second stage
alone begin with one and the same inpainting, which is kept in DIR as every finished run is; its seconds are told below the table.
The paper's ablations are means over five categories of LOCO, image AUROC of structural and logical anomalies and of both.
Validation figures stand beside those of the test part, since a choice between variants may only look at those.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import Data, fit_ours, latency, look, peak_memory
from report import keep, machine, table
from runs import command_line, costs, key, once, origins, seeds_in_words, slug, spread
from safetensors.torch import load_file, save_file

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.resolve import override, resolve
from adjobs.evaluation.evaluate import DeviceConfig, predict_split
from adjobs.metrics import ranking, region
from adjobs.types import Batch, ImageScores

PIXELS = 256  # of the paper's pictures
KINDS = {"logical": "logical_anomalies", "structural": "structural_anomalies"}
IMAGENET = "T4: ImageNet"  # only on request: it wants width 64 and the weights of ResNet18
# Changes of the default, with the paper's image AUROC (structural, logical, all) of each on LOCO.
VARIANTS: dict[str, tuple[dict[str, Any], tuple[float, float, float]]] = {
    "default": ({}, (0.914, 0.896, 0.903)),
    "T4: no large masks": ({"large_masks": 0}, (0.911, 0.856, 0.877)),
    "T4: 4 cells a side": ({"grid_size": 4}, (0.849, 0.866, 0.851)),
    "T4: 60 % masked": ({"mask_ratio": 0.6}, (0.894, 0.884, 0.886)),
    IMAGENET: ({"pretrain": "imagenet"}, (0.846, 0.755, 0.792)),
    "no pretraining": ({"pretrain": "none"}, (np.nan, np.nan, np.nan)),
    "T5: logical alone": ({"logical_fraction": 1}, (0.850, 0.876, 0.861)),
    "T5: structural alone": ({"logical_fraction": 0}, (0.906, 0.858, 0.880)),
    "T5: no foreground": ({"foreground": "everything"}, (0.908, 0.886, 0.892)),
    "Otsu's foreground": ({"foreground": "auto"}, (np.nan, np.nan, np.nan)),
    "T5: rectangles": ({"mask_shape": "rectangles"}, (0.896, 0.881, 0.878)),
    "T6: U-Net": ({"bottleneck_skip": False, "self_attention": False, "graph": False}, (0.899, 0.846, 0.867)),
    "T6: no SG block": ({"self_attention": False, "graph": False}, (0.875, 0.865, 0.868)),
    "T6: attention alone": ({"graph": False}, (0.883, 0.876, 0.875)),
    "T6: graph alone": ({"self_attention": False}, (0.876, 0.885, 0.877)),
    "T6: positions left in": ({"subtract_position_similarity": False}, (0.912, 0.882, 0.889)),
    "T6: K = 7": ({"neighbours": 7}, (0.915, 0.885, 0.894)),
    "T6: K = 11": ({"neighbours": 11}, (0.906, 0.896, 0.898)),
    "T7: no L1": ({"alpha_l1": 0}, (0.885, 0.868, 0.872)),
    "T7: no focal": ({"alpha_focal": 0}, (0.873, 0.875, 0.868)),
    "T7: no auxiliary": ({"alpha_aux": 0}, (0.916, 0.876, 0.891)),
}
FIRST_STAGE = {
    *("width", "pretrain", "mask_ratio", "grid_size", "grid_unit", "large_masks", "large_mask_min", "large_mask_max"),
    *("alpha_adv", "alpha_rec", "alpha_bottleneck", "pretrain_lr", "discriminator_lr", "pretrain_batch_size", "pretrain_epochs"),
}
HEAD = (
    "| data | variant | runs | paper: structural | logical | all | val AUROC: all | structural | logical | test AUROC: all "
    "| structural | logical | pixel AUROC | pixel AP | AU-PRO ≤ 0.3 | ms at batch 1 | at 16 | s of stage 2 | peak MiB |"
)


def aurocs(scores: ImageScores) -> dict[str, float | None]:
    """Image AUROC of all anomalies and of each kind beside all good images."""
    found = {"all": ranking.auroc(scores.labels, scores.score)}
    types = np.array(scores.defects)
    for kind, name in KINDS.items():
        these = (scores.labels == 0) | (types == name)
        found[kind] = ranking.auroc(scores.labels[these], scores.score[these]) if (types == name).any() else None
    return found


def train(job: JobConfig, data: Data) -> dict[str, Any]:
    """One run; it begins with the file that ``pretrain_from`` names, if it names one."""
    place = job.params["pretrain_from"]
    fitted = fit_ours(job, data, load_file(place) if place else None)
    parts = {"val": data.split.val, "test": data.split.test}
    timed = {
        p: predict_split(fitted.method, fitted.cache, data.index, ids, DeviceConfig(fitted.device)) for p, ids in parts.items()
    }
    test = timed["test"].scores
    pixels: dict[str, float | None] = {}
    if test.anomaly_maps is not None and test.masks is not None:
        pixels = {
            "pixel_auroc": ranking.pixel_auroc(test.anomaly_maps, test.masks),
            "pixel_ap": ranking.pixel_ap(test.anomaly_maps, test.masks),
            "au_pro": region.au_pro(test.anomaly_maps, test.masks),
        }
    return {
        **{part: aurocs(found.scores) for part, found in timed.items()},
        **pixels,
        "ms_1": latency(fitted.method, job.data.image_size, 1, fitted.device),
        "ms_16": latency(fitted.method, job.data.image_size, 16, fitted.device),
        "ms_per_image": timed["test"].ms_per_image,
        "seconds": fitted.seconds,
        "peak_mib": peak_memory(fitted.device),
    }


def inpaint(job: JobConfig, data: Data, place: Path) -> dict[str, Any]:
    """The first stage, and hardly any of the second; the weights go to ``place``."""
    fitted = fit_ours(job, data)
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_suffix(".unfinished")
    save_file({key: value.contiguous() for key, value in fitted.method.state_dict().items()}, unfinished)
    unfinished.rename(place)
    return {"seconds": fitted.seconds}


def begun(job: JobConfig, data: Data, arguments: argparse.Namespace) -> tuple[JobConfig, dict[str, Any] | None]:
    """The job that begins with its inpainting, which is done here unless it is kept already; None where there is none."""
    if job.params["pretrain"] != "gpt":
        return job, None
    own = {name: job.params[name] for name in FIRST_STAGE}
    document = {"method": "slsg", "data": job.data.model_dump(), "train": job.train.model_dump(), "params": {**own, "steps": 1}}
    first = resolve(document)
    called = f"{data.index.format}-inpainting-d{job.data.seed}-s{job.train.seed}"
    place = arguments.runs / f"{called}-{key(first, data)}.safetensors"
    found = once(arguments.runs, called, first, data, partial(inpaint, place=place), arguments.threads)
    return job.model_copy(update={"params": {**job.params, "pretrain_from": str(place)}}), found


def row(names: Sequence[str], paper: Sequence[float], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mean and spread of the runs; ``paper`` has nan for what it does not give."""
    printed = ["" if np.isnan(value) else f"{value:.3f}" for value in paper]
    kinds = ("all", "structural", "logical")
    cells = [spread([run[part][kind] for run in runs]) for part in ("val", "test") for kind in kinds]
    pixels = [spread([run.get(name) for run in runs]) for name in ("pixel_auroc", "pixel_ap", "au_pro")]
    speed = [f"{np.mean([run[name] for run in runs]):.1f}" for name in ("ms_1", "ms_16")]
    return [*names, str(len(runs)), *printed, *cells, *pixels, *speed, *costs(runs)[1:]]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, (0, 1, 2), "slsg")
    parser.add_argument(
        "--variants",
        nargs="*",
        default=[v for v in VARIANTS if v != IMAGENET],
        metavar="VARIANT",
        help="none: size and speed alone",
    )
    arguments = parser.parse_args()
    unknown = [v for v in arguments.variants if v not in VARIANTS]
    if unknown:
        parser.error(f"--variants: no {', '.join(unknown)}; have {', '.join(VARIANTS)}")
    arguments.data = [tuple(given.rsplit(":", 1)) for given in arguments.data]
    if any(len(given) != 2 for given in arguments.data):
        parser.error("data: give each as DATA:PROTOCOL, such as TILES:liac")
    return arguments


def main() -> None:
    """Train, measure, print and keep."""
    arguments = parse()
    rows, every, firsts = [], [], []
    for uri, protocol in arguments.data:
        divided = {seed: look(uri, protocol, seed, None) for seed in arguments.split_seeds}
        for variant in arguments.variants:
            params, paper = VARIANTS[variant]
            runs = []
            for division, seed in product(arguments.split_seeds, arguments.seeds):
                section = {"uri": uri, "protocol": protocol, "image_size": arguments.size, "seed": division}
                document: dict[str, Any] = {"method": "slsg", "data": section, "params": {}, "train": {"seed": seed}}
                document = override(document, [f"params.{setting}" for setting in arguments.set])
                document["params"] |= params
                data = divided[division]
                job, first = begun(resolve(document), data, arguments)
                called = f"{data.index.format}-{protocol}-{slug(variant)}-d{division}-s{seed}"
                runs.append(once(arguments.runs, called, job, data, train, arguments.threads))
                firsts += [] if first is None else [first]
            given = paper if data.index.format == "loco" else (np.nan,) * 3
            rows.append(row([f"{data.index.format}, {protocol}", variant], given, runs))
            every += runs
    seconds = sorted({round(first["seconds"]) for first in firsts})
    sizes = f"Parameters: {', '.join(arguments.set) or 'the defaults'}. {parts_in_words(arguments)}"
    published = "The paper, 256 px on a GTX 1080 Ti: 54.2 ms at batch 1, 18.5 at 16; 20.46 M parameters."
    about = (
        f"Images stretched to {arguments.size} px; {seeds_in_words(arguments)}. Seconds of each inpainting: "
        f"{', '.join(map(str, seconds)) or 'none'}. ms: per image, float32, from floats in memory to score and map."
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trained = [about, origins(every), table(HEAD, rows, left=2)] if rows else []
    keep(arguments.name, "SLSG", machine(device), [f"{sizes} {published}", *trained])


def parts_in_words(arguments: argparse.Namespace) -> str:
    """Parameters that inference needs and those of training alone; what simulating takes of a step at the paper's size."""
    document = override({"method": "slsg", "data": {"uri": "x"}}, [f"params.{setting}" for setting in arguments.set])
    method = methods.load("slsg").build(resolve(document).method_config(), image_size=PIXELS, seed=0)
    total = sum(p.numel() for p in method.parameters())
    inpainter: Any = method.inpainter
    training = sum(
        p.numel() for part in (inpainter.decoder, inpainter.coarse, inpainter.discriminator) for p in part.parameters()
    )
    ms = [latency(method, PIXELS, batch, torch.device("cpu")) for batch in (1, 16)]
    simulating, whole = step_times(method)
    return (
        f"{(total - training) / 1e6:.2f} M parameters for inference, {training / 1e6:.2f} M for inpainting alone. "
        f"A step of 4 + 4 images at {PIXELS} px on the processor: {whole:.0f} ms, {simulating:.0f} ms of it to simulate "
        f"({simulating / whole:.1%}). Prediction there: {ms[0]:.0f} ms per image at batch 1, {ms[1]:.0f} at 16."
    )


def step_times(method: torch.nn.Module, count: int = 8) -> tuple[float, float]:
    """Milliseconds of simulating anomalies, and of a whole step of the second stage; medians of five."""
    stage = method.stages()[-1]  # type: ignore[operator]
    optimizer, taken = stage.optimizer(), []
    generator = torch.Generator().manual_seed(0)
    images, nothing = torch.rand(count, 3, PIXELS, PIXELS), torch.zeros(count, 1, PIXELS, PIXELS, dtype=torch.bool)
    rows = torch.arange(count)
    batch = Batch(images, torch.zeros(count).long(), nothing, nothing, rows >= count // 2, rows, generator)
    stage.module.train()
    for _ in range(6):
        begin = time.perf_counter()
        method.simulate(batch)  # type: ignore[operator]
        between = time.perf_counter()
        loss = stage.module(batch)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        taken.append((1000 * (between - begin), 1000 * (time.perf_counter() - between)))
    simulating, whole = np.median(taken[1:], 0)
    return float(simulating), float(whole)


if __name__ == "__main__":
    main()
