"""Speed on this machine: training images/s, evaluation ms per image, AU-PRO seconds. Prints a table and keeps it in results/.

    python benchmarks/throughput.py [--backbone tf_efficientnet_lite0] [--size 128 256] [--batch 8 32] [--seconds 10]

The images are random, since their content does not matter here. Neither Ray nor MLflow is needed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from report import machine, table, write_result
from timing import synchronise
from training import default_device

from adjobs import methods
from adjobs.evaluation.evaluate import DeviceConfig, evaluation_mode, predict_images
from adjobs.metrics.ranking import pixel_ranking
from adjobs.metrics.region import au_pro
from adjobs.training.device import resolve_precision
from adjobs.types import Batch


def seconds_per_call(work: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Mean seconds of a call over at least ``seconds``, after three calls to warm up."""
    for _ in range(3):
        work()
    synchronise(device)
    count, started_at = 0, time.perf_counter()
    while time.perf_counter() - started_at < seconds:
        work()
        count += 1
        synchronise(device)
    return (time.perf_counter() - started_at) / count


def training_speed(method: Any, device_config: DeviceConfig, size: int, batch_size: int, seconds: float) -> float:
    """Images per second of whole optimizer steps: simulation, forward, backward, update."""
    device = device_config.device
    generator = torch.Generator(device).manual_seed(0)
    images = torch.rand(batch_size, 3, size, size, device=device).to(memory_format=torch.channels_last)
    empty = torch.zeros(batch_size, 1, size, size, dtype=torch.bool, device=device)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    batch = Batch(images, labels, empty, empty, labels == 0, torch.arange(len(images)), generator, slice(0, len(images)))
    stage = method.stages()[0]
    optimizer = stage.optimizer()
    method.train()

    def step() -> None:
        with device_config.autocasting():
            loss = stage.module(batch).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return batch_size / seconds_per_call(step, seconds, device)


def evaluation_ms(method: Any, device_config: DeviceConfig, size: int, batch_size: int, seconds: float) -> float:
    """Milliseconds per image from uint8 pixels to score and anomaly map in memory."""
    images = np.random.default_rng(0).integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8)
    with evaluation_mode(method):
        call_seconds = seconds_per_call(lambda: predict_images(method, images, device_config), seconds, device_config.device)
    return 1000 * call_seconds / batch_size


def metric_seconds(count: int = 100, side: int = 256) -> tuple[float, float]:
    """Seconds of AU-PRO, and of pixel AUROC and AP together, for random maps with two square defects in every other image."""
    rng = np.random.default_rng(0)
    maps = rng.random((count, side, side), dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[::2, 20:60, 20:60] = masks[::2, 150:160, 90:200] = True
    maps[masks] += 0.3
    started_at = time.perf_counter()
    au_pro(maps, masks)
    au_pro_ended_at = time.perf_counter()
    pixel_ranking(maps, masks)
    return au_pro_ended_at - started_at, time.perf_counter() - au_pro_ended_at


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="of CDO")
    parser.add_argument("--size", type=int, nargs="+", default=[128, 256], help="sides of the images in pixels")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16], help="batch sizes")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each measurement")
    arguments = parser.parse_args()
    device = default_device()
    device_config = resolve_precision("auto", device)
    cdo = methods.load("cdo")

    def build(size: int) -> Any:
        config = cdo.config(backbone=arguments.backbone, weights="none")
        return cdo.build(config, image_size=size, seed=0).to(device).to(memory_format=torch.channels_last)

    rows = [
        [
            f"cdo, {arguments.backbone}",
            f"{size}",
            f"{batch}",
            f"{training_speed(build(size), device_config, size, batch, arguments.seconds):.1f}",
            f"{evaluation_ms(build(size), device_config, size, batch, arguments.seconds):.2f}",
        ]
        for size in arguments.size
        for batch in arguments.batch
    ]
    au_pro_seconds, ranking_seconds = metric_seconds()
    write_result(
        f"throughput-{device.type}-{datetime.now(UTC):%Y-%m-%d}",
        "Throughput",
        f"{machine(device)}; precision {'bf16' if device_config.autocast else 'fp32'}",
        [
            table("| method | pixels | batch | training images/s | evaluation ms/image |", rows),
            f"100 maps of 256²: AU-PRO {au_pro_seconds:.2f} s, pixel AUROC and AP together {ranking_seconds:.2f} s.",
        ],
    )


if __name__ == "__main__":
    main()
