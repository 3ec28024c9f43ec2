"""How often does `adjobs drift` report drift: on unchanged images, on contaminated ones, and after changes of camera and light?

    python benchmarks/drift.py [--repeats 100] [--changed-repeats 20] [--epochs 1] [--run RUN] [--seed 0]

Trains CDO on the solar cells of the installed package elpv-dataset briefly. Scores, statistics and features of its
normal validation and test cells are computed once for each change; each draw takes disjoint reference and recent images of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageChops, ImageEnhance, ImageFilter
from report import machine, table, write_result

from adjobs import api
from adjobs.config.environment import load_settings
from adjobs.data.dataset import Sample
from adjobs.data.open import open_dataset
from adjobs.drift.describe import describe_images
from adjobs.drift.descriptors import FeatureExtractor
from adjobs.drift.images import ImageFile
from adjobs.drift.options import DriftOptions
from adjobs.drift.reference import open_model
from adjobs.drift.result import Verdict
from adjobs.drift.verdict import ImageTable, compare_samples
from adjobs.metrics.intervals import proportion

N_REFERENCE, N_RECENT = 100, 150
MAX_NORMAL, MAX_ANOMALOUS = 300, 80  # held-out images that are described
Change = Callable[[Image.Image], Image.Image]

CHANGES: dict[str, Change] = {
    "5 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.95),
    "10 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.9),
    "blurred, σ 0.7 px": lambda image: image.filter(ImageFilter.GaussianBlur(0.7)),
    "moved by 6 px (2 %)": lambda image: ImageChops.offset(image, 6, 0),
    "JPEG 70": lambda image: image,  # by its suffix
}


class Pools(NamedTuple):
    """Descriptors of the held-out images.

    Attributes:
        normal: of the normal images.
        changed: of the same images after each change.
        anomalous: of anomalous images.
        is_poly: ``(N,)`` whether a normal image is of a polycrystalline cell.
    """

    normal: ImageTable
    changed: Mapping[str, ImageTable]
    anomalous: ImageTable
    is_poly: np.ndarray


def rows_of(images: ImageTable, indices: Sequence[int] | np.ndarray) -> ImageTable:
    """Some images of a table."""
    assert images.statistics is not None
    assert images.features is not None
    return ImageTable(images.scores[indices], images.statistics[indices], images.features[indices])


def joined(first: ImageTable, second: ImageTable) -> ImageTable:
    """The images of both tables."""
    assert first.statistics is not None
    assert first.features is not None
    assert second.statistics is not None
    assert second.features is not None
    return ImageTable(
        np.append(first.scores, second.scores),
        np.concatenate([first.statistics, second.statistics]),
        np.concatenate([first.features, second.features]),
    )


def train(epochs: int) -> str:
    """Train without MLflow; returns the run's id."""
    overrides = [f"params.epochs={epochs}", "data.image_size=128"]
    job = {"method": "cdo", "data": {"uri": "elpv"}, "track": "none"}
    return api.train(job, overrides=overrides, progress=False).run_id


def describe_pools(run_id: str, folder: Path) -> Pools:
    """Describe held-out images of a run."""
    settings = load_settings()
    dataset = open_dataset("elpv", cache=settings.cache)
    samples = {sample.id: sample for sample in dataset.samples}
    lines = [line.split() for line in (dataset.root / "labels.csv").read_text().splitlines()]
    poly = {name for name, _, kind in (line for line in lines if line) if kind == "poly"}
    with open_model(run_id, settings, "cpu") as model:
        extractor = FeatureExtractor(torch.device("cpu"))
        split = model.run.stored_run().split
        held_out = [samples[name] for name in (*split.val, *split.test)]
        order = np.random.default_rng(0).permutation(len(held_out))
        normal = [held_out[i] for i in order if held_out[i].label == "normal"][:MAX_NORMAL]
        anomalous = [held_out[i] for i in order if held_out[i].label == "anomalous"][:MAX_ANOMALOUS]

        def describe(chosen: Sequence[Sample], change: str = "") -> ImageTable:
            files = [changed_file(sample, change, folder) for sample in chosen]
            return describe_images(model.detector, files, extractor).table

        return Pools(
            normal=describe(normal),
            changed={change: describe(normal, change) for change in CHANGES},
            anomalous=describe(anomalous),
            is_poly=np.array([sample.id in poly for sample in normal]),
        )


def changed_file(sample: Sample, change: str, folder: Path) -> ImageFile:
    """An image after a change, written to a folder."""
    if not change:
        return ImageFile(sample.id, sample.image)
    suffix = "jpg" if change.startswith("JPEG") else "png"
    path = folder / f"{list(CHANGES).index(change)}-{sample.image.stem}.{suffix}"
    with Image.open(sample.image) as image:
        CHANGES[change](image).save(path, **({"quality": 70} if suffix == "jpg" else {}))
    return ImageFile(sample.id, path)


def compare_once(pools: Pools, change: str, share: float, generator: np.random.Generator) -> Verdict:
    """The verdict on disjoint random images, the recent ones changed, or polycrystalline, or partly anomalous."""
    order = generator.permutation(len(pools.is_poly))
    reference, remaining = order[:N_REFERENCE], order[N_REFERENCE:]
    if change == POLY:
        remaining = remaining[pools.is_poly[remaining]]
    n_anomalous = int(generator.binomial(N_RECENT, share))
    recent = rows_of(pools.changed.get(change, pools.normal), remaining[: N_RECENT - n_anomalous])
    if n_anomalous:
        recent = joined(recent, rows_of(pools.anomalous, generator.permutation(len(pools.anomalous.scores))[:n_anomalous]))
    return compare_samples(rows_of(pools.normal, reference), recent, DriftOptions(), generator)


POLY = "polycrystalline cells only"


def table_row(name: str, verdicts: Sequence[Verdict]) -> list[str]:
    """Share of drift, with the interval of the simulation, and of each test; and of drift at alpha 0.1."""
    drift = proportion(sum(verdict.has_drifted is True for verdict in verdicts), len(verdicts))
    by_test = [np.mean([verdict.tests[index].has_drifted for verdict in verdicts]) for index in range(3)]
    lenient = np.mean([min(test.p_value for test in verdict.tests) * 3 <= 0.1 for verdict in verdicts])
    interval = f"{drift.low:.1%} to {drift.high:.1%}"
    return [name, str(len(verdicts)), f"{drift.value:.1%}", interval, *(f"{value:.0%}" for value in by_test), f"{lenient:.1%}"]


def main() -> None:
    """Train, draw, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100, help="draws of each row without drift")
    parser.add_argument("--changed-repeats", type=int, default=20, help="draws of each other row")
    parser.add_argument("--epochs", type=int, default=1, help="of the training")
    parser.add_argument("--run", help="of such a training, to use again")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    with TemporaryDirectory(prefix="adjobs-") as folder:
        pools = describe_pools(arguments.run or train(arguments.epochs), Path(folder))
    scenarios = [("unchanged", "", 0.0, True), ("unchanged, 5 % defective", "", 0.05, True)]
    scenarios += [("unchanged, 25 % defective", "", 0.25, False), (POLY, POLY, 0.0, False)]
    scenarios += [(change, change, 0.0, False) for change in CHANGES]
    rows = []
    for name, change, share, is_null in scenarios:
        repeats = arguments.repeats if is_null else arguments.changed_repeats
        rows.append(table_row(name, [compare_once(pools, change, share, generator) for _ in range(repeats)]))
    detectable = compare_once(pools, "", 0.0, generator).detectable_shift
    write_result(
        "drift",
        "How often drift is reported, solar cells",
        machine(torch.device("cpu")),
        [
            f"Each draw takes {N_REFERENCE} reference and {N_RECENT} recent images at random from {len(pools.is_poly)} normal "
            f"cells and {len(pools.anomalous.scores)} defective ones that CDO ({arguments.epochs} epoch, 128 px) was not fitted "
            "to; the recent ones are changed as stated. Defaults otherwise: alpha 0.01, 5 % of the recent images may be "
            "anomalous. The columns of the tests are their shares at alpha 0.01. A shift of the scores by "
            f"{detectable:.2g} standard deviations is detectable with probability 0.8.",
            table("| recent images | draws | drift | 95 % interval | scores | statistics | features | at alpha 0.1 |", rows),
        ],
    )


if __name__ == "__main__":
    main()
