"""Accuracy of our methods beside anomalib's PatchCore and PaDiM: same pictures, split, backbone, pixels and measures.

    python benchmarks/accuracy.py TILES elpv [--anomalib-python DIR/bin/python] [--epochs 20] [--set cdo.lr=0.001]

TILES is the folder of the magnetic tiles, elpv the installed package; any data set that adjobs opens will do. The neighbours run
in an environment of their own, and without ``--anomalib-python`` they are left out:

    python -m venv DIR && DIR/bin/pip install -r benchmarks/neighbours/requirements.txt

They get the decoded pixels of the normal training images and of the test images, and the backbone's weights, in an exchange
folder (``neighbours/anomalib_scores.py``); no label of a test image. All scores and maps are measured by ``adjobs.metrics``.
PatchCore's coreset of 1 % is drawn as anomalib draws it. On two busy cores that took 79 minutes for the 571 normal tiles at
128 px; with ``--patchcore-levels 2 3``, the strides 8 and 16 that its paper uses, 2 minutes (2026-11-23).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from contenders import NEIGHBOURS, Data, Result, look, run_neighbours, run_ours
from report import keep, machine, table

from adjobs import evaluate, methods
from adjobs.backbones import LEVELS
from adjobs.evaluate import EVAL_BATCH
from adjobs.metrics.intervals import Estimate, auroc_interval
from adjobs.metrics.pixel import pixel_measures

HEAD = (
    "| data | method | learns from | image AUROC (95 %) | image AP | pixel AUROC | pixel AP | AU-PRO ≤ 0.3 "
    "| ms/image | training s | peak MiB |"
)


def row(data: Data, result: Result) -> list[str]:
    """The measures of a result as a line of the table."""
    scores = result.scores
    images = evaluate.measure_images(scores)
    pixels: list[float | None] = [None, None, None]
    if scores.maps is not None and scores.masks is not None:
        measured = pixel_measures(scores.maps, scores.masks, limits=(0.3,))
        pixels = [measured.auroc, measured.ap, measured.au_pro[0.3]]
    return [
        data.index.format,
        result.method,
        result.learns_from,
        figure(auroc_interval(scores.labels, scores.scores)),
        *(number(value) for value in [images["image_ap"], *pixels]),
        f"{result.ms_per_image:.1f}",
        f"{result.train_seconds:.0f}",
        f"{result.peak_mib:.0f}",
    ]


def number(value: float | None) -> str:
    """Three digits, or a dash for what is undefined."""
    return "–" if value is None else f"{value:.3f}"


def figure(estimate: Estimate) -> str:
    """A measure with its interval."""
    return number(estimate.value) + ("" if estimate.low is None else f" ({number(estimate.low)}–{number(estimate.high)})")


def standing(data: Data, results: Sequence[Result]) -> str:
    """Where the best of ours stands beside the best neighbour, in a sentence."""

    def best(ours: bool) -> Result | None:
        of = [result for result in results if result.ours is ours]
        return max(of, key=lambda r: auroc_interval(r.scores.labels, r.scores.scores).value or 0, default=None)

    mine, other = best(True), best(False)
    if mine is None or other is None:
        return f"- {data.index.format}: nothing to compare."
    first, second = (auroc_interval(r.scores.labels, r.scores.scores) for r in (mine, other))
    gap = (first.value or 0) - (second.value or 0)
    verdict = f"is {abs(gap):.3f} {'ahead of' if gap > 0 else 'behind'}"
    same = mine.learns_from == other.learns_from
    labels = "" if same else f"; it learnt from {mine.learns_from}, the other from {other.learns_from}"
    return f"- {data.index.format}: {mine.method} {figure(first)} {verdict} {other.method} {figure(second)}{labels}."


def about(arguments: argparse.Namespace, every: Sequence[Data]) -> str:
    """What a reader must know to repeat or to doubt the table."""
    labels = [{sample.id: sample.label for sample in data.index.samples} for data in every]
    tests = [[known[name] for name in data.split.test] for known, data in zip(labels, every, strict=True)]
    sets = [
        f"{data.index.format} {test.count('normal')} normal and {test.count('anomalous')} anomalous test images"
        f" ({data.excluded} pictures with problems left out)"
        for data, test in zip(every, tests, strict=True)
    ]
    changed = [*([f"epochs={arguments.epochs}"] if arguments.epochs is not None else []), *arguments.set]
    return (
        f"Images stretched to {arguments.size} px, split `{arguments.protocol}` with seed {arguments.seed}: {'; '.join(sets)}. "
        f"The backbone of all is {arguments.backbone} with the weights and the normalisation that adjobs uses, at strides 4, 8 "
        f"and 16 (PatchCore: {', '.join(str(2 ** (level + 1)) for level in arguments.patchcore_levels)}). "
        f"ms/image: from uint8 pixels to score and map in memory, batches of {EVAL_BATCH}, float32. "
        f"Training seconds of ours include the validation that chooses a checkpoint, where a method has that rule. "
        f"Peak: GPU memory, or resident memory of the process. "
        f"Parameters of ours: {', '.join(changed) if changed else 'the defaults'}."
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="data sets as 'adjobs train --data' takes them")
    parser.add_argument("--anomalib-python", help="Python of the environment with anomalib")
    parser.add_argument("--exchange", type=Path, help="keep what the neighbours are asked and answer here, and ask nothing twice")
    parser.add_argument("--methods", nargs="*", choices=methods.names(), default=methods.names(), help="which of ours")
    parser.add_argument("--neighbours", nargs="*", choices=list(NEIGHBOURS), default=list(NEIGHBOURS))
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--protocol", default="liac", help="how train and test are made")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the training and the neighbours")
    parser.add_argument("--k", type=int, help="most labelled anomalies in the training part")
    parser.add_argument("--epochs", type=int, help="for every method of ours that counts epochs")
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.KEY=VALUE", help="a parameter of one of ours")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="of the neighbours; of ours: --set METHOD.backbone=")
    parser.add_argument("--patchcore-levels", type=int, nargs="+", choices=LEVELS, default=list(LEVELS), metavar="LEVEL")
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
    every: list[Data] = []
    rows: list[list[str]] = []
    standings: list[str] = []
    for uri in arguments.data:
        data = look(uri, arguments.protocol, arguments.seed, arguments.k)
        results = []
        for name in arguments.methods:
            print(f"{data.index.format}: {name}", file=sys.stderr)
            results.append(run_ours(name, data, arguments))
        if arguments.anomalib_python:
            results.extend(run_neighbours(data, arguments))
        every.append(data)
        rows.extend(row(data, result) for result in results)
        standings.append(standing(data, results))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    closing = ["**Where we stand**, image AUROC on the test part:", "\n".join(standings)]
    if not arguments.anomalib_python:
        closing = ["anomalib was not measured: no --anomalib-python was given."]
    keep(arguments.name, "Accuracy", machine(device), [about(arguments, every), table(HEAD, rows, left=3), *closing])


if __name__ == "__main__":
    main()
