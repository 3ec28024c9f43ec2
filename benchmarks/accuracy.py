"""Accuracy of our methods beside anomalib's PatchCore and PaDiM: same pictures, split, backbone, pixels and measures.

    python benchmarks/accuracy.py TILES elpv --runs DIR [--anomalib-python DIR/bin/python] [--set cdo.lr=0.001] [--job JOB]

TILES is the folder of the magnetic tiles, elpv the installed package; any data set that adjobs opens will do. JOB is a job file,
such as those in ``jobs/`` that hold what searches chose. Every run is kept in the folder of runs as soon as it is done, and not
repeated. The neighbours run in an environment of their own, and without ``--anomalib-python`` they are left out:

    python -m venv DIR && DIR/bin/pip install -r benchmarks/neighbours/requirements.txt

They get the decoded pixels of the normal training images and of the test images, and the backbone's weights, in an exchange
folder (``neighbours/anomalib_scores.py``); no label of a test image. All scores and maps are measured by ``adjobs.metrics``.
PatchCore's coreset of 1 % is drawn as anomalib draws it. On two busy cores that took 79 minutes for the 571 normal tiles at
128 px; with ``--patchcore-levels 2 3``, the strides 8 and 16 that its paper uses, 2 minutes (2026-11-23).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from contenders import NEIGHBOURS, Answers, Data, fit_ours, learnt, look, peak_memory, run_neighbours
from report import keep, machine, table
from runs import costs, once, origins, slug

from adjobs import methods
from adjobs.backbones import LEVELS, USUAL_LEVELS
from adjobs.config.job import JobConfig
from adjobs.config.resolve import override, resolve
from adjobs.evaluation.evaluate import EVAL_BATCH, DeviceConfig, TimedScores, predict_split
from adjobs.evaluation.result import compute_image_metrics
from adjobs.metrics.intervals import auroc_interval
from adjobs.metrics.pixel import exact_pixel_metrics
from adjobs.types import ImageScores

HEAD = (
    "| data | method | learns from | val: image AUROC | test: image AUROC (95 %) | image AP | pixel AUROC | pixel AP "
    "| AU-PRO ≤ 0.3 | ms/image | training s | peak MiB |"
)


def measured(scores: ImageScores) -> dict[str, Any]:
    """The measures of the test part."""
    estimate = auroc_interval(scores.labels, scores.score)
    found: dict[str, Any] = {"image_auroc": [estimate.value, estimate.low, estimate.high]}
    found["image_ap"] = compute_image_metrics(scores)["image_ap"]
    if scores.anomaly_maps is not None and scores.masks is not None:
        pixels = exact_pixel_metrics(scores.anomaly_maps, scores.masks, limits=(0.3,))
        found |= {"pixel_auroc": pixels.auroc, "pixel_ap": pixels.ap, "au_pro": pixels.au_pro[0.3]}
    return found


def train(job: JobConfig, data: Data) -> dict[str, Any]:
    """Train one of ours and measure it."""
    fitted = fit_ours(job, data)

    def scored(part: Sequence[str]) -> TimedScores:
        return predict_split(fitted.method, fitted.cache, data.index, part, DeviceConfig(fitted.device))

    val, test = scored(data.split.val).scores, scored(data.split.test)
    mixes = [stage.mix for stage in fitted.method.stages()]  # type: ignore[operator]
    labelled = fitted.training.n_anomalous if any(mix.all_labels or mix.anomalous for mix in mixes) else 0
    return {
        "ours": True,
        "learns_from": learnt(fitted.training.n_normal, labelled),
        "val": compute_image_metrics(val)["image_auroc"],
        "test": measured(test.scores),
        "ms_per_image": test.ms_per_image,
        "seconds": fitted.seconds,
        "peak_mib": peak_memory(fitted.device),
    }


def jobs(data: Data, arguments: argparse.Namespace) -> dict[str, JobConfig]:
    """Jobs by what the table calls them: methods as the command line sets them, then those of job files."""
    where = {
        "uri": data.uri,
        "protocol": arguments.protocol,
        "k": arguments.k,
        "image_size": arguments.size,
        "seed": arguments.seed,
    }
    rest = {"data": where, "train": {"seed": arguments.seed}}
    found = {}
    for name in arguments.methods:
        given = [setting for setting in arguments.set if setting.startswith(f"{name}.")]
        if arguments.epochs is not None and "epochs" in methods.config_class(name).model_fields:
            given.insert(0, f"{name}.epochs={arguments.epochs}")
        settings = ["params." + setting.removeprefix(f"{name}.") for setting in given]
        found[name] = resolve(override({"method": name, **rest}, settings))
    for path in arguments.job:
        document = yaml.safe_load(path.read_text())
        found[f"{document['method']}, {path.name}"] = resolve({**rest, **{key: document[key] for key in ("method", "params")}})
    return found


def results(data: Data, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One after the other, ours first."""
    for title, job in jobs(data, arguments).items():
        name = f"{data.index.format}-{slug(title)}"
        yield once(arguments.runs, name, job, data, train, arguments.threads) | {"method": title}
    if arguments.anomalib_python:
        yield from map(answered, run_neighbours(data, arguments.runs / f"exchange-{data.index.format}", arguments))


def answered(answers: Answers) -> dict[str, Any]:
    """A neighbour's answers, measured."""
    told = answers._asdict()
    test = measured(told.pop("scores"))
    return {**told, "ours": False, "val": None, "test": test}


def row(data: Data, result: Mapping[str, Any]) -> list[str]:
    """A line of the table."""
    test = result["test"]
    rest = [number(test.get(key)) for key in ("image_ap", "pixel_auroc", "pixel_ap", "au_pro")]
    about = [data.index.format, result["method"], result["learns_from"]]
    return [*about, number(result["val"]), figure(test["image_auroc"]), *rest, *costs([result])]


def number(value: float | None) -> str:
    """Three digits, or a dash for what is undefined."""
    return "–" if value is None else f"{value:.3f}"


def figure(estimate: Sequence[float | None]) -> str:
    """A measure with its interval."""
    value, low, high = map(number, estimate)
    return value if estimate[1] is None else f"{value} ({low}–{high})"


def standing(data: Data, every: Sequence[Mapping[str, Any]]) -> str:
    """Where the best of ours stands beside the best neighbour, and the best that learns from the same, a sentence each."""

    def auroc(result: Mapping[str, Any]) -> float:
        return float(result["test"]["image_auroc"][0] or 0)

    other = max((r for r in every if not r["ours"]), key=auroc, default=None)
    mine = sorted((r for r in every if r["ours"]), key=auroc, reverse=True)
    if other is None or not mine:
        return f"- {data.index.format}: nothing to compare."
    alike = (r for r in mine if r["learns_from"] == other["learns_from"] != mine[0]["learns_from"])
    best = [mine[0], *islice(alike, 1)]
    return "\n".join(f"- {data.index.format}: {beside(one, other, auroc(one) - auroc(other))}." for one in best)


def beside(one: Mapping[str, Any], other: Mapping[str, Any], gap: float) -> str:
    """One of ours and a neighbour, whose image AUROC is less by ``gap``, in words."""
    verdict = "is level with" if abs(gap) < 0.0005 else f"is {abs(gap):.3f} {'ahead of' if gap > 0 else 'behind'}"
    same = one["learns_from"] == other["learns_from"]
    labels = "" if same else f"; it learnt from {one['supervision']}, the other from {other['supervision']}"
    first, second = (f"{r['method']} {figure(r['test']['image_auroc'])}" for r in (one, other))
    return f"{first} {verdict} {second}{labels}"


def strides(levels: Sequence[int]) -> str:
    """Of hierarchies, in words."""
    return ", ".join(str(2 ** (level + 1)) for level in levels)


def about(arguments: argparse.Namespace, every: Sequence[Data]) -> str:
    """What a reader must know to repeat or to doubt the table."""
    labels = [{sample.id: sample.label for sample in data.index.samples} for data in every]
    tests = [[known[name] for name in data.split.test] for known, data in zip(labels, every, strict=True)]
    sets = [
        f"{data.index.format} {test.count('normal')} normal and {test.count('anomalous')} anomalous test images"
        f" ({data.excluded} pictures with problems left out)"
        for data, test in zip(every, tests, strict=True)
    ]
    split = f"`{arguments.protocol}`" + ("" if arguments.k is None else f", K = {arguments.k},")
    changed = [*([f"epochs={arguments.epochs}"] if arguments.epochs is not None else []), *arguments.set]
    return (
        f"Images stretched to {arguments.size} px, split {split} with seed {arguments.seed}: {'; '.join(sets)}. "
        f"The backbone of all is {arguments.backbone} with the weights and the normalisation that adjobs uses; PatchCore has its "
        f"strides {strides(arguments.patchcore_levels)}, PaDiM {strides(arguments.padim_levels)}. "
        f"ms/image: from uint8 pixels to score and map in memory, batches of {EVAL_BATCH}, float32. "
        f"Training seconds of ours include the validation that chooses a checkpoint, where a method has that rule. "
        f"Peak: GPU memory, or resident memory of the process. "
        f"Parameters of ours, where no job file is named: {', '.join(changed) if changed else 'the defaults'}."
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="data sets as 'adjobs train --data' takes them")
    parser.add_argument("--runs", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of each run of ours")
    parser.add_argument("--anomalib-python", help="Python of the environment with anomalib")
    parser.add_argument("--methods", nargs="*", choices=methods.names(), default=methods.names(), help="which of ours")
    parser.add_argument("--neighbours", nargs="*", choices=list(NEIGHBOURS), default=list(NEIGHBOURS))
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--protocol", default="liac", help="how train and test are made")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the training and the neighbours")
    parser.add_argument("--k", type=int, help="most labelled anomalies in the training part")
    parser.add_argument("--epochs", type=int, help="for every method of ours that counts epochs")
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.KEY=VALUE", help="a parameter of one of ours")
    parser.add_argument(
        "--job", action="append", default=[], type=Path, help="method and parameters of a job file take part as well, as they are"
    )
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="of the neighbours; of ours: --set METHOD.backbone=")
    for name in NEIGHBOURS:
        usual = list(LEVELS[:USUAL_LEVELS])
        parser.add_argument(f"--{name}-levels", type=int, nargs="+", choices=LEVELS, default=usual, metavar="LEVEL")
    parser.add_argument("--padim-features", type=int, help="channels that PaDiM draws by lot; all unless told")
    parser.add_argument("--name", default="accuracy", help="of the file in results/")
    arguments = parser.parse_args()
    for setting in arguments.set:
        if setting.partition(".")[0] not in methods.names() or "=" not in setting:
            parser.error(f"--set {setting}: give METHOD.KEY=VALUE, such as cdo.lr=0.001")
    return arguments


def main() -> None:
    """Train, measure, print and keep."""
    arguments = parse()
    divided: list[Data] = []
    ours: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    standings: list[str] = []
    for uri in arguments.data:
        data = look(uri, arguments.protocol, arguments.seed, arguments.k)
        found = list(results(data, arguments))
        divided.append(data)
        ours.extend(result for result in found if result["ours"])
        rows.extend(row(data, result) for result in found)
        standings.append(standing(data, found))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    managed_run = ["**Where we stand**, image AUROC on the test part:", "\n".join(standings)]
    if not arguments.anomalib_python:
        managed_run = ["anomalib was not measured: no --anomalib-python was given."]
    parts = [about(arguments, divided), origins(ours), table(HEAD, rows, left=3), *managed_run]
    keep(arguments.name, "Accuracy", machine(device), parts)


if __name__ == "__main__":
    main()
