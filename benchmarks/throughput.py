"""Speed on this machine: training images/s, evaluation ms per image, AU-PRO seconds. Prints a table and keeps it in results/.

    python benchmarks/throughput.py [--backbone tf_efficientnet_lite0] [--size 128 256] [--batch 8 32] [--seconds 10]

Pictures are drawn; what they show does not matter here. Neither Ray nor MLflow is needed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import torch
from report import keep, machine, table
from torch import nn

from adjobs import methods
from adjobs.evaluation.evaluate import DeviceConfig, evaluation_mode, predict_images
from adjobs.metrics.ranking import pixel_ranking
from adjobs.metrics.region import au_pro
from adjobs.training.device import resolve_precision
from adjobs.types import Batch


def repeat(work: Callable[[], None], seconds: float, device: torch.device) -> float:
    """Seconds per call, after three calls to warm up."""
    for _ in range(3):
        work()
    wait(device)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        work()
        count += 1
        wait(device)
    return (time.perf_counter() - begin) / count


def wait(device: torch.device) -> None:
    """Let the device finish what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def training_speed(method: nn.Module, runner: DeviceConfig, size: int, batch_size: int, seconds: float) -> float:
    """Images per second of whole optimizer steps: simulation, forward, backward, update."""
    device = runner.device
    generator = torch.Generator(device).manual_seed(0)
    images = torch.rand(batch_size, 3, size, size, device=device).to(memory_format=torch.channels_last)
    nothing = torch.zeros(batch_size, 1, size, size, dtype=torch.bool, device=device)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    batch = Batch(images, labels, nothing, nothing, labels == 0, torch.arange(len(images)), generator)
    stage = method.stages()[0]  # type: ignore[operator]
    optimizer = stage.optimizer()
    method.train()

    def step() -> None:
        with torch.autocast(device.type, runner.autocast or torch.bfloat16, enabled=runner.autocast is not None):
            loss = stage.module(batch).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return batch_size / repeat(step, seconds, device)


def evaluation_ms(method: nn.Module, runner: DeviceConfig, size: int, batch_size: int, seconds: float) -> float:
    """Milliseconds per image from uint8 pixels to score and map in memory."""
    images = np.random.default_rng(0).integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8)
    with evaluation_mode(method):
        return 1000 * repeat(lambda: predict_images(method, images, runner) and None, seconds, runner.device) / batch_size


def measure_seconds(count: int = 100, side: int = 256) -> tuple[float, float]:
    """Seconds of AU-PRO, and of pixel AUROC and AP together, for drawn maps with two square defects in every other image."""
    rng = np.random.default_rng(0)
    maps = rng.random((count, side, side), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[::2, 20:60, 20:60] = masks[::2, 150:160, 90:200] = True
    maps[masks] += 0.3
    begin = time.perf_counter()
    au_pro(maps, masks)
    middle = time.perf_counter()
    pixel_ranking(maps, masks)
    return middle - begin, time.perf_counter() - middle


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each figure is measured")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    runner = resolve_precision("auto", device)
    folder = methods.load("cdo")

    def build(size: int) -> nn.Module:
        config = folder.config(backbone=arguments.backbone, weights="none")
        return folder.build(config, image_size=size, seed=0).to(device).to(memory_format=torch.channels_last)

    rows = [
        [
            f"cdo, {arguments.backbone}",
            f"{size}",
            f"{batch}",
            f"{training_speed(build(size), runner, size, batch, arguments.seconds):.1f}",
            f"{evaluation_ms(build(size), runner, size, batch, arguments.seconds):.2f}",
        ]
        for size in arguments.size
        for batch in arguments.batch
    ]
    region, ranking = measure_seconds()
    keep(
        f"throughput-{device.type}-{datetime.now(UTC):%Y-%m-%d}",
        "Throughput",
        f"{machine(device)}; precision {'bf16' if runner.autocast else 'fp32'}",
        [
            table("| method | pixels | batch | training images/s | evaluation ms/image |", rows),
            f"100 maps of 256²: AU-PRO {region:.2f} s, pixel AUROC and AP together {ranking:.2f} s.",
        ],
    )


if __name__ == "__main__":
    main()
