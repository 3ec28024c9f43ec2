"""SemiREST: its levels of supervision beside the distance to its own memory, its parts one by one, speed and size.

    python benchmarks/semirest.py TILES --size 128 --runs DIR --set coreset_ratio=0.01

Every level learns from the same ten anomalies of protocol ``budget``, or from none of them; all are tested on the same pictures.
Runs with boxes, and those "after none", go on with the network of the run without labels with the same seed, whose weights are
kept in DIR.
"Nearest" is the distance to the memory of the unsupervised run: what PatchCore scores, and what the method sets out from. The
paper's figures are means over the categories of MVTec AD, which are other pictures. Validation figures stand beside those of the
test part, since a choice may only look at those.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from contenders import Data, fit_ours, latency, look, peak_memory
from report import keep, machine, table
from runs import command_line, costs, key, once, origins, seeds_in_words, slug, spread
from safetensors.torch import load_file, save_file
from torch import nn

from adjobs import methods
from adjobs.config.job import JobConfig
from adjobs.config.resolve import override, resolve
from adjobs.data.labels.masks import ANOMALOUS, NORMAL, UNKNOWN, coarsen
from adjobs.evaluation.evaluate import DeviceConfig, predict_split
from adjobs.methods.semirest.labels import UNDECIDED, token_labels
from adjobs.metrics import ranking, region
from adjobs.types import ImageScores, Prediction

PAPER_MEMORY, PAPER_SIZE = 81_920, 512  # a tenth of the 64 × 64 tokens of 200 pictures, which is what a category of MVTec AD has


class Variant(NamedTuple):
    """A level of supervision, with changes of its defaults.

    Attributes:
        level: of supervision.
        params: what is changed.
        paper: pixel AP, AU-PRO and pixel AUROC on MVTec AD (Table 7); nan for what it does not give.
        goes_on: whether it begins with the network of the run without labels.
    """

    level: str
    params: Mapping[str, Any] = MappingProxyType({})
    paper: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    goes_on: bool = False


def boxes(paper: tuple[float, float, float] = (np.nan, np.nan, np.nan), **params: Any) -> Variant:
    """Boxes always refine."""
    return Variant("boxes", params, paper, goes_on=True)


VARIANTS = {
    "none": Variant("none", paper=(0.812, 0.975, 0.993)),
    "none, twice": Variant("none", goes_on=True),
    "masks": Variant("masks", paper=(0.844, 0.981, 0.995)),
    "masks, after none": Variant("masks", goes_on=True),
    "masks, refined as boxes": Variant(
        "masks",
        {"steps": 250, "lr": 3e-4, "normal_per_batch": 3, "simulated_per_batch": 3, "window_fraction": 0.25},
        goes_on=True,
    ),
    "blocks": Variant("blocks"),
    "boxes": boxes((0.838, 0.981, 0.995)),
    "none, residuals without square (abs)": Variant("none", {"residual_distance": "abs"}, (0.764, np.nan, np.nan)),
    "none, no position": Variant("none", {"position_weight": 0.0}),
    "none, nearest neighbour alone": Variant("none", {"nearest_probability": 1.0, "two_nearest_probability": 1.0}),
    "none, residuals not scaled": Variant("none", {"target_mean_residual": None}),
    "boxes, half guessed anomalous": boxes(box_anomalous_prior=0.5),
    "boxes, guesses as they come": boxes(box_anomalous_prior=None),
    "boxes, mixed": boxes(mixup=True),
    "boxes, unknown tokens apart": boxes(separate_unknown_mean=True),
    "boxes, as published": boxes(mixup=True, separate_unknown_mean=True, box_anomalous_prior=None, unknown_weight=5.0),
    "boxes, unknown tokens left out": boxes((0.807, 0.975, 0.993), unknown_weight=0.0, token_dropout=0.0),
    "boxes, no dropout": boxes((0.821, 0.978, 0.994), token_dropout=0.0),
}
PAPER = [f"{name}={value if value is not None else 'null'}" for name, value in methods.presets("semirest")["paper"].items()]
HEAD = (
    "| data | variant | runs | paper: pixel AP | AU-PRO | pixel AUROC | val: pixel AP | AU-PRO | pixel AUROC | image AUROC "
    "| test: pixel AP | AU-PRO | pixel AUROC | image AUROC | ms at batch 1 | s of training | peak MiB |"
)
PAIRED_HEAD = (
    "| data | differences of the same division and seed | pairs | val: pixel AP | AU-PRO | pixel AUROC | image AUROC "
    "| test: pixel AP | AU-PRO | pixel AUROC | image AUROC | pixel AP of each pair: val | test |"
)
MEASURES = ("pixel_ap", "au_pro", "pixel_auroc", "image_auroc")
PAIRS = (
    *(("none", "nearest"), ("none, twice", "nearest"), ("none, twice", "none")),
    *(("boxes", "none"), ("masks", "none"), ("masks", "boxes")),
    *(("masks, after none", "none, twice"), ("masks, after none", "boxes"), ("masks, after none", "masks")),
    *(("masks, refined as boxes", "none"), ("masks, refined as boxes", "boxes")),
)


class Distance(nn.Module):
    """The distance to the memory of a trained method, as a method of its own."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def predict(self, images: torch.Tensor) -> Prediction:
        """The largest distance, and the map of them."""
        maps = self.method.distances(images)  # type: ignore[operator]
        return Prediction(maps.flatten(1).amax(1), maps)


def measures(scores: ImageScores) -> dict[str, float | None]:
    """The paper's three, and that of the images."""
    assert scores.anomaly_maps is not None
    assert scores.masks is not None
    return {
        "pixel_ap": ranking.pixel_ap(scores.anomaly_maps, scores.masks),
        "au_pro": region.au_pro(scores.anomaly_maps, scores.masks),
        "pixel_auroc": ranking.pixel_auroc(scores.anomaly_maps, scores.masks),
        "image_auroc": ranking.auroc(scores.labels, scores.score),
    }


def train(job: JobConfig, data: Data, weights: Path | None = None) -> dict[str, Any]:
    """One run, with what the distance to its memory scores; ``weights`` is where they go, or where one that goes on begins."""
    begins = job.params["unsupervised_from"] is not None
    fitted = fit_ours(job, data, load_file(weights) if begins and weights else None)
    if weights and not begins:
        unfinished = weights.with_suffix(".unfinished")
        save_file({key: value.contiguous() for key, value in fitted.method.state_dict().items()}, unfinished)
        unfinished.rename(weights)
    parts = {"val": data.split.val, "test": data.split.test}
    asked = {"": fitted.method, "distance_": Distance(fitted.method)}
    found = {
        f"{prefix}{part}": measures(predict_split(method, fitted.cache, data.index, ids, DeviceConfig(fitted.device)).scores)
        for (prefix, method), (part, ids) in product(asked.items(), parts.items())
    }
    size = job.data.image_size
    latencies = {
        "ms_1": latency(fitted.method, size, 1, fitted.device),
        "distance_ms_1": latency(asked["distance_"], size, 1, fitted.device),
    }
    return {
        **found,
        **latencies,
        "memory": list(fitted.method.memory.tokens.shape),  # type: ignore[union-attr]
        "ms_per_image": latencies["ms_1"],
        "seconds": fitted.seconds,
        "peak_mib": peak_memory(fitted.device),
    }


def row(names: Sequence[str], paper: Sequence[float], runs: Sequence[Mapping[str, Any]], prefix: str = "") -> list[str]:
    """Mean and spread of the runs; ``paper`` has nan for what it does not give."""
    printed = ["" if np.isnan(value) else f"{value:.3f}" for value in paper]
    cells = [spread([run[prefix + part][name] for run in runs]) for part in ("val", "test") for name in MEASURES]
    speed = f"{np.mean([run[f'{prefix}ms_1'] for run in runs]):.1f}"
    return [*names, str(len(runs)), *printed, *cells, speed, *(["", ""] if prefix else costs(runs)[1:])]


def paired(name: str, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    """Differences between levels, each run beside that of the same division and seed: divisions differ more than levels do.

    Args:
        name: of the data.
        found: a variant to its runs, all in one order of divisions and seeds; their measures in ``val`` and ``test``.
    """
    rows = []
    for more, less in PAIRS:
        if {more, less} <= found.keys():
            sides = list(zip(found[more], found[less], strict=True))
            gains = {(part, m): [a[part][m] - b[part][m] for a, b in sides] for part in ("val", "test") for m in MEASURES}
            each = [", ".join(f"{gain:+.3f}" for gain in gains[part, MEASURES[0]]) for part in ("val", "test")]
            rows.append([name, f"{more} − {less}", str(len(sides)), *map(spread, gains.values()), *each])
    return rows


def filled(data: Data, size: int, part: Collection[str]) -> float:
    """Which share of the pixels in boxes is defect, in the pictures of a part."""
    cache = data.open(size)
    masks = [cache.labels[cache.label_index_of[sample.id]] for sample in data.index.samples if sample.mask and sample.id in part]
    boxes = [coarsen(mask, "boxes", size) == UNKNOWN for mask in masks]
    return float(sum((mask == ANOMALOUS).sum() for mask in masks) / sum(box.sum() for box in boxes))


def tokens_in_boxes(data: Data, size: int, part: Collection[str]) -> list[float]:
    """Of the tokens that boxes leave unknown: which shares the masks call anomalous, normal, and neither."""
    cache = data.open(size)
    rows = [cache.label_index_of[sample.id] for sample in data.index.samples if sample.mask and sample.id in part]
    masks = np.stack([cache.labels[row] for row in rows])
    boxes = np.stack([coarsen(mask, "boxes", size) for mask in masks])
    defect, unknown = (torch.from_numpy(where)[:, None] for where in (masks == ANOMALOUS, boxes == UNKNOWN))
    config = methods.config_class("semirest")(supervision="boxes")
    phase, nothing = config.phases[-1], torch.zeros_like(defect)  # type: ignore[attr-defined]
    open_ = token_labels(nothing, unknown, phase, config) == UNKNOWN  # type: ignore[arg-type]
    told = token_labels(defect, nothing, phase, config)[open_]  # type: ignore[arg-type]
    return [float((told == which).float().mean()) for which in (ANOMALOUS, NORMAL, UNDECIDED)]


def speeds(settings: Sequence[str], size: int, memory: int, device: torch.device, times: int) -> str:
    """Milliseconds of one picture with and without bagging, of random weights and memory, and what the network has of weights."""
    document = {"method": "semirest", "data": {"uri": "x"}}
    config = resolve(override(document, [f"params.{setting}" for setting in settings])).method_config()
    told = []
    for bagging in (True, False):
        config = config.model_copy(update={"bagging": bagging, "weights": "none"})
        method = methods.load("semirest").build(config, image_size=size, seed=0).to(device)
        bank = torch.randn(memory, method.memory.tokens.shape[1], generator=torch.Generator().manual_seed(0))
        method.memory.set_tokens(bank, torch.zeros(memory))
        told.append(f"{latency(method, size, 1, device, times):.0f}")
    weights = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (method.features, method.network)]
    return (
        f"at {size} px with {memory:,} tokens in memory {told[0]} ms with bagging, {told[1]} without; "
        f"{weights[0]:.2f} M parameters of features, {weights[1]:.2f} M of the network"
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, (0, 1), "semirest")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), metavar="VARIANT", help="none: size and speed alone")
    parser.add_argument("--paper-speed", action="store_true", help="time the paper's networks at their size, too")
    arguments = parser.parse_args()
    unknown = [v for v in arguments.variants if v not in VARIANTS]
    if unknown:
        parser.error(f"--variants: no {', '.join(unknown)}; have {', '.join(VARIANTS)}")
    return arguments


def runs_of(variant: str, uri: str, divided: Mapping[int, Data], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The runs of a variant, by division and seed."""
    level, params, _, goes_on = VARIANTS[variant]
    runs = []
    for division, seed in product(arguments.split_seeds, arguments.seeds):
        section = {"uri": uri, "protocol": "budget", "image_size": arguments.size, "seed": division}
        document: dict[str, Any] = {"method": "semirest", "data": section, "params": {}, "train": {"seed": seed}}
        document = override(document, [f"params.{setting}" for setting in arguments.set])
        data = divided[division]
        called = f"{data.index.format}-{slug(variant)}-d{division}-s{seed}"
        weights, job = None, resolve(override(document, ["params.supervision=none"]))
        if variant == "none" or goes_on:
            weights = arguments.runs / f"unsupervised-{key(job, data)}.safetensors"
        if goes_on:
            plain = f"{data.index.format}-none-d{division}-s{seed}"
            once(arguments.runs, plain, job, data, partial(train, weights=weights), arguments.threads)
            document["params"]["unsupervised_from"] = weights.name if weights else None
        document["params"] |= {"supervision": level, **params}
        work = partial(train, weights=weights)
        runs.append(once(arguments.runs, called, resolve(document), data, work, arguments.threads))
    return runs


def main() -> None:
    """Train, measure, print and keep."""
    arguments = parse()
    rows, pairs, every, notes = [], [], [], []
    nothing = (np.nan,) * 3
    for uri in arguments.data:
        divided = {seed: look(uri, "budget", seed, None) for seed in arguments.split_seeds}
        name = divided[arguments.split_seeds[0]].index.format
        found: dict[str, list[dict[str, Any]]] = {}
        for variant in arguments.variants:
            runs = found[variant] = runs_of(variant, uri, divided, arguments)
            if variant == "none":
                found["nearest"] = [{part: run[f"distance_{part}"] for part in ("val", "test")} for run in runs]
                rows.append(row([name, "nearest, the same memory"], nothing, runs, "distance_"))
            rows.append(row([name, variant], VARIANTS[variant].paper, runs))
            every += runs
        pairs += paired(name, found)
        everything = divided[arguments.split_seeds[0]]
        whole = filled(everything, arguments.size, {sample.id for sample in everything.index.samples})
        trained_on = ", ".join(f"{filled(data, arguments.size, set(data.split.train)):.2f}" for data in divided.values())
        notes.append(f"Defects fill {whole:.2f} of their boxes in {name}, in the labelled training pictures {trained_on}.")
        shares = [tokens_in_boxes(data, arguments.size, set(data.split.train)) for data in divided.values()]
        each = ", ".join(f"{anomalous:.2f} / {normal:.2f} / {neither:.2f}" for anomalous, normal, neither in shares)
        notes.append(f"Of the tokens in these pictures' boxes masks call anomalous / normal / neither: {each}.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(arguments.threads)
    about = (
        f"Images stretched to {arguments.size} px; protocol `budget`; {seeds_in_words(arguments)}. Parameters: "
        f"{', '.join(arguments.set) or 'the defaults'}; tokens in memory {sorted({run['memory'][0] for run in every})}. "
        "ms: one picture, float32, from floats in memory to score and map."
    )
    trained = [about, origins(every), *notes, table(HEAD, rows, left=2)] if rows else []
    trained += [table(PAIRED_HEAD, pairs, left=2)] if pairs else []
    tokens = every[0]["memory"][0] if every else PAPER_MEMORY // 100
    told = [f"These networks {speeds(arguments.set, arguments.size, tokens, device, 5)}."]
    if arguments.paper_speed:
        told.append(f"The paper's networks here {speeds(PAPER, PAPER_SIZE, PAPER_MEMORY, device, 1)}.")
    told.append("The paper, on an RTX 4090: 119.7 ms with bagging, 44.2 without; 49.73 M and 51.44 M parameters.")
    keep(arguments.name, "SemiREST", machine(device), [*trained, " ".join(told)])


if __name__ == "__main__":
    main()
