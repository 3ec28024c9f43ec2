"""How long does it take to add 20 images to a data set with versions of 2,000?

    python benchmarks/dataset_versions.py   # a folder
    eval "$(adjobs status --env)"           # before it: S3 of the embedded stack, too

Images are drawn, with 256 pixels a side. Each figure is the median of three data sets. What is made on S3 stays there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from report import machine, table, write_result

from adjobs.config.environment import load_settings
from adjobs.config.settings import Settings
from adjobs.data.open import open_dataset
from adjobs.data.versions.record import SplitRule
from adjobs.versioning.adding import add_to_dataset
from adjobs.versioning.creating import Origin, create_dataset
from adjobs.versioning.dataset import VersionedDataset

REPEATS = 3
SIDE = 256
Result = TypeVar("Result")


def draw(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Grey images with stripes and noise; no two are near duplicates."""
    folder.mkdir(parents=True, exist_ok=True)
    stripes = 12 * np.sin(np.arange(SIDE) * 2 * np.pi / 8)
    for number in range(count):
        pixels = (110 + np.roll(stripes, number) + rng.normal(0, 6, (SIDE, SIDE))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.png")


def run(address: str, folder: Path, settings: Settings) -> dict[str, float]:
    """Seconds of each step with a new data set."""
    seconds: dict[str, float] = {}

    def timed(name: str, action: Callable[[], Result]) -> Result:
        started_at = time.perf_counter()
        result = action()
        seconds[name] = time.perf_counter() - started_at
        return result

    origin, inbox = Origin(str(folder / "source")), str(folder / "inbox")
    author = {"settings": settings, "author": "benchmark"}
    timed("create from an existing data set", lambda: create_dataset(address, rule=SplitRule(), origin=origin, **author))
    result = timed("add the inbox", lambda: add_to_dataset(address, inbox, **author))
    assert result.version is not None, result
    timed("add the same inbox again: all duplicates", lambda: add_to_dataset(address, inbox, **author))
    timed("list the images of a version", lambda: VersionedDataset.open(address).samples())
    timed("open for a job, nothing in the cache", lambda: open_dataset(address, cache=settings.cache))
    timed("open for a job, all in the cache", lambda: open_dataset(address, cache=settings.cache))
    return seconds


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--new", type=int, default=20)
    arguments = parser.parse_args()
    settings, rng = load_settings(), np.random.default_rng(0)
    rows = []
    with TemporaryDirectory(prefix="adjobs-") as name:
        folder = Path(name)
        draw(folder / "source" / "good", arguments.images * 9 // 10, rng)
        draw(folder / "source" / "bad" / "scratch", arguments.images // 10, rng)
        draw(folder / "inbox" / "scratch", arguments.new, rng)
        places = {"folder": str(folder / "set")}
        if settings.artifacts.startswith("s3://"):
            places["S3"] = f"{settings.artifacts}/benchmark-{os.getpid()}"
        for place, address in places.items():
            steps: dict[str, list[float]] = defaultdict(list)
            for number in range(REPEATS):
                cached = replace(settings, cache=folder / f"cache-{place}-{number}")
                for step, seconds in run(f"{address}-{number}", folder, cached).items():
                    steps[step].append(seconds)
            rows += [[place, step, f"{statistics.median(values):.2f}"] for step, values in steps.items()]
    write_result(
        "dataset-versions",
        "Data sets with versions",
        machine(torch.device("cpu")),
        [
            f"{arguments.new} new images, {arguments.images:,} before, {SIDE} x {SIDE} pixels. Seconds.",
            table("| place | what | s |", rows, left=2),
        ],
    )


if __name__ == "__main__":
    main()
