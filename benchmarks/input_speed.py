"""An epoch of input from the decoded cache, beside decoding and resizing every image in every epoch on all cores.

    python benchmarks/input_speed.py TILES elpv [--size 128 256] [--batch 32] [--seconds 5]

Decoding: ``load_rgb`` of all normal images in threads, to uint8 pixels and no further. Cached pixels: the same result, rows of
the cache in shuffled batches, on one core. Cached batches: what the training loop uses, float32 on the device with labels.
Files and cache are in the page cache in all cases.

Memory: the anonymous pages of a process that has just read an epoch, and the files that it has mapped, which the system shares
between processes and drops when it needs the memory. From the images once, and four times over under other names.
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
from report import machine, table, write_result
from training import default_device

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
    """Memory of a process in MiB: anonymous pages, and pages of mapped files, which processes share."""

    anonymous: float
    files: float


def normal_samples(dataset: Dataset) -> list[Sample]:
    """The images that an epoch reads."""
    return [sample for sample in dataset.samples if sample.label == "normal"]


def make_plan(dataset: Dataset, name: str, root: Path, size: int, batch: int, device: torch.device) -> BatchPlan:
    """The batches of an epoch over all normal images."""
    cache = open_cache(dataset, name, size, root)
    data = TrainingData(cache, dataset, [sample.id for sample in normal_samples(dataset)], device)
    return data.plan(BatchComposition(normal=batch), world_size=1)


def read_epoch(plan: BatchPlan, epoch: int, device: torch.device) -> int:
    """Load every batch of an epoch; returns the number of images."""
    steps = plan.steps_per_epoch
    images = 0
    for step in range(epoch * steps, (epoch + 1) * steps):
        images += len(plan.batch(step, seed=0, stage=0, rank=0, device=device).images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return images


def read_pixels(cache: ImageCache, plan: BatchPlan, epoch: int) -> int:
    """Copy every batch's pixels out of the cache and drop them; returns the number of images."""
    indices = plan.pool.shuffled(0, 0, epoch)
    for start in range(0, len(indices), plan.global_batch_size):
        cache.images[indices[start : start + plan.global_batch_size]]
    return len(indices)


def images_per_second(epoch: Callable[[int], int], seconds: float) -> float:
    """Images per second of whole epochs, after one to warm up."""
    epoch(0)
    images, number, started_at = 0, 0, time.perf_counter()
    while number == 0 or time.perf_counter() - started_at < seconds:
        number += 1
        images += epoch(number)
    return images / (time.perf_counter() - started_at)


def decode_all(samples: Sequence[Sample], size: int) -> int:
    """Decode and resize every image on all cores, and drop it; returns the number of images."""

    def decode(sample: Sample) -> None:
        load_rgb(sample.image, size)

    in_threads(decode, samples, text="decoding")
    return len(samples)


def memory_after_epoch(dataset: Dataset, name: str, root: Path, size: int, batch: int) -> Memory:
    """Memory of a process that has read an epoch from an existing cache on the CPU. Called in a process of its own."""
    device = torch.device("cpu")
    plan = make_plan(dataset, name, root, size, batch, device)
    read_epoch(plan, 0, device)
    kib = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        key, value, *_ = line.split()
        kib[key.rstrip(":")] = int(value)
    del plan  # only now, because the mapping ends with it
    return Memory(kib["Anonymous"] / 1024, (kib["Rss"] - kib["Anonymous"]) / 1024)


def repeat_samples(dataset: Dataset, times: int) -> Dataset:
    """Every sample this many times, under other names."""
    copies = [replace(sample, id=f"{sample.id}#{i}") for sample in dataset.samples for i in range(times)]
    return replace(dataset, samples=tuple(sorted(copies, key=lambda sample: sample.id)))


def memory_rows(dataset: Dataset, size: int, batch: int) -> list[list[str]]:
    """Memory for the images once and four times over."""
    rows = []
    with TemporaryDirectory(prefix="adjobs-input-") as temporary:
        root = Path(temporary)
        for times in (1, 4):
            copies, name = repeat_samples(replace(dataset, samples=tuple(normal_samples(dataset))), times), f"times-{times}"
            cache = open_cache(copies, name, size, root)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                memory = pool.submit(memory_after_epoch, copies, name, root, size, batch).result()
            sizes = [cache.images.nbytes / 2**20, *memory]
            rows.append([dataset.format, str(len(copies.samples)), str(size), *(f"{value:.0f}" for value in sizes)])
    return rows


def speed_row(dataset: Dataset, size: int, arguments: argparse.Namespace, device: torch.device) -> list[str]:
    """A row of the table of speeds."""
    root, name, samples = load_settings().cache, fingerprint(dataset), normal_samples(dataset)
    plan, cache = make_plan(dataset, name, root, size, arguments.batch, device), open_cache(dataset, name, size, root)
    decoding = images_per_second(lambda _: decode_all(samples, size), arguments.seconds)
    pixels = images_per_second(lambda epoch: read_pixels(cache, plan, epoch), arguments.seconds)
    batches = images_per_second(lambda epoch: read_epoch(plan, epoch, device), arguments.seconds)
    speeds = [f"{decoding:.0f}", f"{pixels:.0f}", f"{pixels / decoding:.1f}", f"{batches:.0f}", f"{batches / decoding:.1f}"]
    return [dataset.format, str(len(samples)), str(size), *speeds]


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="data sets as 'adjobs train --data' takes them")
    parser.add_argument("--size", type=int, nargs="+", default=[128, 256], help="sides of the images in pixels")
    parser.add_argument("--batch", type=int, default=32, help="batch size")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each measurement, at least one epoch")
    arguments = parser.parse_args()
    device = default_device()
    rows, memory = [], []
    for uri in arguments.data:
        dataset = open_dataset(uri, cache=load_settings().cache)
        for size in arguments.size:
            rows.append(speed_row(dataset, size, arguments, device))
            if Path("/proc/self/smaps_rollup").exists():
                memory.extend(memory_rows(dataset, size, arguments.batch))
    write_result(
        f"input-speed-{device.type}",
        "Speed of input",
        f"{machine(device)}; batches of {arguments.batch}, decoding in {cores()} threads",
        [table(HEAD, rows), "Memory of a process after an epoch from the cache:", table(MEMORY_HEAD, memory)],
    )


if __name__ == "__main__":
    main()
