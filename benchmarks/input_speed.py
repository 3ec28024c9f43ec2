"""An epoch of input from the decoded cache, beside decoding and resizing every image in every epoch on all cores.

    python benchmarks/input_speed.py TILES elpv [--size 128 256] [--batch 32] [--seconds 5]

Decoding: ``load_rgb`` of all normal images in threads, to uint8 pixels and no further. Cached pixels: the same product, rows of
the cache in shuffled batches, on one core. Cached batches: what the training loop asks for, float32 on the device with labels.
Files and cache are in the page cache in all cases.

Memory: what a process holds for itself (anonymous pages) when it has just read an epoch, and what it has mapped of files, which
the system shares between processes and drops when it needs the room. From the images once, and four times over under other names.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from report import keep, machine, table

from adjobs.config.environment import load_settings
from adjobs.data.batches import BatchPlan, TrainingData
from adjobs.data.cache.images import ImageCache, open_cache
from adjobs.data.dataset import Dataset, Sample, fingerprint
from adjobs.data.images import load_rgb
from adjobs.data.open import open_dataset
from adjobs.methods.contract import BatchComposition
from adjobs.parallel import cores, in_threads

HEAD = "| data | images | pixels | decoding images/s | cached pixels images/s | ratio | cached batches images/s | ratio |"
MEMORY_HEAD = "| data | images | pixels | cache MiB | anonymous MiB | mapped files MiB |"


class Memory(NamedTuple):
    """Of a process, in MiB: pages of its own, and pages of files that others share."""

    anonymous: float
    files: float


def normal(index: Dataset) -> list[Sample]:
    """The images that an epoch reads."""
    return [sample for sample in index.samples if sample.label == "normal"]


def plan(index: Dataset, name: str, root: Path, size: int, batch: int, device: torch.device) -> BatchPlan:
    """The batches of an epoch over all normal images."""
    cache = open_cache(index, name, size, root)
    data = TrainingData(cache, index, [sample.id for sample in normal(index)], device)
    return data.plan(BatchComposition(normal=batch), world_size=1)


def read_epoch(batches: BatchPlan, epoch: int, device: torch.device) -> int:
    """Load every batch of an epoch; returns the number of images."""
    steps = batches.steps_per_epoch
    images = 0
    for step in range(epoch * steps, (epoch + 1) * steps):
        images += len(batches.batch(step, seed=0, stage=0, rank=0, device=device).images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return images


def read_pixels(cache: ImageCache, batches: BatchPlan, epoch: int) -> int:
    """Copy every batch's pixels out of the cache and forget them; returns the number of images."""
    rows = batches.pool.shuffled(0, 0, epoch)
    for start in range(0, len(rows), batches.global_batch_size):
        cache.images[rows[start : start + batches.global_batch_size]]
    return len(rows)


def speed(epoch: Callable[[int], int], seconds: float) -> float:
    """Images per second of whole epochs, after one to warm up."""
    epoch(0)
    count, number, begin = 0, 0, time.perf_counter()
    while number == 0 or time.perf_counter() - begin < seconds:
        number += 1
        count += epoch(number)
    return count / (time.perf_counter() - begin)


def decode_all(samples: Sequence[Sample], size: int) -> int:
    """Decode and resize every image on all cores, and forget it; returns their number."""

    def decode(sample: Sample) -> None:
        load_rgb(sample.image, size)

    in_threads(decode, samples, text="decoding")
    return len(samples)


def memory_after_epoch(index: Dataset, name: str, root: Path, size: int, batch: int) -> Memory:
    """What a process holds when it has read an epoch from an existing cache on the CPU. Called in a process of its own."""
    device = torch.device("cpu")
    batches = plan(index, name, root, size, batch, device)
    read_epoch(batches, 0, device)
    kib = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        key, value, *_ = line.split()
        kib[key.rstrip(":")] = int(value)
    del batches  # only now: with it goes the mapping
    return Memory(kib["Anonymous"] / 1024, (kib["Rss"] - kib["Anonymous"]) / 1024)


def repeated(index: Dataset, times: int) -> Dataset:
    """Every sample so many times, under other names."""
    copies = [replace(sample, id=f"{sample.id}#{i}") for sample in index.samples for i in range(times)]
    return replace(index, samples=tuple(sorted(copies, key=lambda sample: sample.id)))


def memory_rows(index: Dataset, size: int, batch: int) -> list[list[str]]:
    """Memory for the images once and four times over."""
    rows = []
    with TemporaryDirectory(prefix="adjobs-input-") as temporary:
        for times in (1, 4):
            several, root = repeated(replace(index, samples=tuple(normal(index))), times), Path(temporary)
            name = f"times-{times}"
            cache = open_cache(several, name, size, root)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                found = pool.submit(memory_after_epoch, several, name, root, size, batch).result()
            sizes = [cache.images.nbytes / 2**20, *found]
            rows.append([index.format, str(len(several.samples)), str(size), *(f"{value:.0f}" for value in sizes)])
    return rows


def speeds(index: Dataset, size: int, arguments: argparse.Namespace, device: torch.device) -> list[str]:
    """The figures of one line."""
    root, name, samples = load_settings().cache, fingerprint(index), normal(index)
    batches, cache = plan(index, name, root, size, arguments.batch, device), open_cache(index, name, size, root)
    decoded = speed(lambda _: decode_all(samples, size), arguments.seconds)
    pixels = speed(lambda epoch: read_pixels(cache, batches, epoch), arguments.seconds)
    whole = speed(lambda epoch: read_epoch(batches, epoch, device), arguments.seconds)
    return [f"{decoded:.0f}", f"{pixels:.0f}", f"{pixels / decoded:.1f}", f"{whole:.0f}", f"{whole / decoded:.1f}"]


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="data sets as 'adjobs train --data' takes them")
    parser.add_argument("--size", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each speed is measured; at least one epoch")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, memory = [], []
    for uri in arguments.data:
        index = open_dataset(uri, cache=load_settings().cache)
        for size in arguments.size:
            rows.append([index.format, str(len(normal(index))), str(size), *speeds(index, size, arguments, device)])
            if Path("/proc/self/smaps_rollup").exists():
                memory.extend(memory_rows(index, size, arguments.batch))
    keep(
        f"input-speed-{device.type}",
        "Speed of input",
        f"{machine(device)}; batches of {arguments.batch}, decoding in {cores()} threads",
        [table(HEAD, rows), "Memory of a process after an epoch from the cache:", table(MEMORY_HEAD, memory)],
    )


if __name__ == "__main__":
    main()
