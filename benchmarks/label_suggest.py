"""Are the images that `adjobs label suggest` chooses worth more than random ones?

    python benchmarks/label_suggest.py elpv [--pool-anomalies 80] [--epochs 3] [--size 128] [--name label-suggest]

A third of the normal images of the data set and a few anomalies train a detector (CDO), some more choose its threshold, and the
others, with few anomalies as on a line, are the pool of unlabelled images. Counted is how many of the chosen ones are anomalous,
and how many the detector decides wrongly. Random images are given by their expectation. About six minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from report import machine, table, write_result
from training import default_device

import adjobs
from adjobs.config.environment import load_settings
from adjobs.data.dataset import Sample
from adjobs.data.open import open_dataset
from adjobs.labelling.candidates import Candidates, gather_candidates
from adjobs.labelling.suggest import SuggestOptions, choose

COUNTS = (20, 50)
NORMAL_SHARES = {"train": 0.3, "val": 0.12}  # of the normal images; the others are the pool
ANOMALIES = {"train": 10, "val": 20}  # a test split is not needed, but a data set must have one
N_TEST = (10, 10)  # normal and anomalous
VARIANTS = {
    "as by default": {},
    "near the threshold only": {"novelty": 0.0, "diversity": 0.0},
    "unlike the training images only": {"near_threshold": 0.0, "diversity": 0.0},
    "near and unlike, without diversity": {"diversity": 0.0},
    "diversity only": {"near_threshold": 0.0, "novelty": 0.0},
}


class Pool(NamedTuple):
    """Folders of the labelled data set and of the unlabelled images, and whether each of these, by name, is anomalous."""

    labelled: Path
    unlabelled: Path
    truth: Mapping[str, bool]


def draw_pool(samples: Sequence[Sample], folder: Path, pool_anomalies: int, seed: int) -> Pool:
    """Split a data set into a labelled one and a pool."""
    rng = np.random.default_rng(seed)
    normal, anomalous = (
        [of_label[i] for i in rng.permutation(len(of_label))]
        for of_label in ([s for s in samples if s.label == label] for label in ("normal", "anomalous"))
    )
    pool = Pool(folder / "labelled", folder / "pool", {})
    counts = {split: (int(share * len(normal)), ANOMALIES[split]) for split, share in NORMAL_SHARES.items()} | {"test": N_TEST}
    lines, truth = [], {}
    for path in (pool.labelled, pool.unlabelled):
        path.mkdir(parents=True)
    for split, (n_normal, n_anomalous) in counts.items():
        chosen = [*(normal.pop() for _ in range(n_normal)), *(anomalous.pop() for _ in range(n_anomalous))]
        for sample in chosen:
            name = f"{len(lines):04d}{sample.image.suffix}"
            shutil.copy(sample.image, pool.labelled / name)
            lines.append({"image": name, "label": sample.label, "split": split})
    (pool.labelled / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    others = normal + anomalous[:pool_anomalies]
    for i in rng.permutation(len(others)):
        name = f"{len(truth):04d}{others[i].image.suffix}"
        shutil.copy(others[i].image, pool.unlabelled / name)
        truth[name] = others[i].label == "anomalous"
    return pool._replace(truth=truth)


def train(pool: Pool, epochs: int, size: int) -> str:
    """Train a detector without MLflow; returns its run id."""
    data = {"uri": str(pool.labelled), "protocol": "official", "image_size": size, "skip_invalid": True}
    job: dict[str, Any] = {"method": "cdo", "data": data, "track": "none", "params": {"epochs": epochs}}
    return adjobs.train(job, progress=False).run_id


def count(candidates: Candidates, truth: Mapping[str, bool], names: Sequence[str]) -> list[float]:
    """Anomalous images, decided wrongly, missed, false alarms, among images of these names."""
    decisions = {image.source.path.name: image.prediction.decision == "anomalous" for image in candidates.scored}
    pairs = [(truth[name], decisions[name]) for name in names]
    missed, alarms = sum(t and not d for t, d in pairs), sum(d and not t for t, d in pairs)
    return [sum(t for t, _ in pairs), missed + alarms, missed, alarms]


def rows(candidates: Candidates, truth: Mapping[str, bool]) -> list[list[str]]:
    """Rows of the table."""
    everything = [image.source.path.name for image in candidates.scored]
    whole = count(candidates, truth, everything)
    by_score = [image.source.path.name for image in sorted(candidates.scored, key=lambda image: -image.prediction.score)]
    body = []
    for n in COUNTS:
        expected = [f"{n * value / len(everything):.1f}" for value in whole]
        body.append([str(n), "random (expected)", *expected])
        for name, options in VARIANTS.items():
            result = choose(candidates, SuggestOptions(count=n, **options))
            names = [suggestion.source.path.name for suggestion in result.suggestions]
            body.append([str(n), name, *(f"{value:.0f}" for value in count(candidates, truth, names))])
        body.append([str(n), "highest scores", *(f"{value:.0f}" for value in count(candidates, truth, by_score[:n]))])
    return [*body, [str(len(everything)), "the whole pool", *(f"{value:.0f}" for value in whole)]]


def describe_left_out(candidates: Candidates, truth: Mapping[str, bool]) -> str:
    """What was left out as a repetition of labelled images."""
    names = [duplicate.source.path.name for duplicate in candidates.duplicates]
    anomalous = sum(truth[name] for name in names)
    return (
        f"Left out because they repeat labelled images: {len(names)} images, of which {anomalous} are anomalous "
        f"({len(names) / len(truth):.0%} of the pool, {anomalous / sum(truth.values()):.0%} of its anomalies)."
    )


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data set as 'adjobs train --data' takes it")
    parser.add_argument("--pool-anomalies", type=int, default=80, help="anomalies in the pool, at most")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--name", default="label-suggest", help="name of the file in results/")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data, cache=load_settings().cache)
    with TemporaryDirectory(prefix="adjobs-") as folder:
        os.environ["ADJOBS_HOME"] = folder
        pool = draw_pool(dataset.samples, Path(folder), arguments.pool_anomalies, arguments.seed)
        run_id = train(pool, arguments.epochs, arguments.size)
        started_at = time.perf_counter()
        candidates = gather_candidates(run_id, [pool.unlabelled], load_settings())
        seconds = time.perf_counter() - started_at
    n_known = len(candidates.ranking.known.labelled)
    about = (
        f"Format {dataset.format}: CDO, {arguments.epochs} epochs at {arguments.size} px, on {n_known} labelled images; a pool "
        f"of {len(pool.truth)}. Reading, scoring and comparing took {seconds:.0f} s."
    )
    head = "| images | chosen by | anomalous | decided wrongly | missed | false alarms |"
    body = [about, describe_left_out(candidates, pool.truth), table(head, rows(candidates, pool.truth), left=2)]
    write_result(arguments.name, "Which images to label", machine(default_device()), body)


if __name__ == "__main__":
    main()
