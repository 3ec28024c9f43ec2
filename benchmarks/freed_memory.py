"""Training steps on a processor with freed memory kept for the next step, and without. Prints a table and keeps it in results/.

    python benchmarks/freed_memory.py [--methods cdo liac dpae] [--size 256] [--steps 8] [--rounds 5]

Images and defects are drawn, weights are random. Both ways take turns, interval by interval, so that other load on the machine
slows both; an interval includes giving memory back at its end. Page faults are those of a step, memory is the most that was seen
after a step.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

import psutil
import torch
from gpu_build import build, drawn_data
from report import machine, table, write_result

from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.training.stage_trainer import StageTrainer, WorkerContext

DEVICE = torch.device("cpu")
HEAD = "| method | ms a step | kept | times faster | ms CPU | kept | times faster | page faults | kept | MiB | kept |"


class Interval(NamedTuple):
    """What a step of an interval took, on average, and the most memory after one."""

    seconds: float
    cpu_seconds: float
    faults: float
    mib: float


def take_interval(trainer: Any, steps: range, kept: bool) -> Interval:
    """Take steps, with freed memory kept or not."""
    mib = 0.0

    def after_step() -> bool:
        nonlocal mib
        mib = max(mib, psutil.Process().memory_info().rss / 2**20)
        return False

    way = nullcontext() if kept else mock.patch("adjobs.training.stage_trainer.freed_memory_kept", nullcontext)
    faults, started_at, cpu_started_at = _faults(), time.perf_counter(), time.process_time()
    with way:
        trainer.train(steps, 1, lambda update: None, after_step)
    seconds, cpu_seconds = time.perf_counter() - started_at, time.process_time() - cpu_started_at
    count = len(steps)
    return Interval(seconds / count, cpu_seconds / count, (_faults() - faults) / count, mib)


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def row(name: str, size: int, steps: int, rounds: int) -> list[str]:
    """Of the table: medians over rounds of a method's last stage."""
    with tempfile.TemporaryDirectory() as folder:
        data = drawn_data(size, DEVICE, Path(folder))
        method = build({"method": name, "params": {}, "size": size}, DEVICE)
        index, stage = max((i, stage) for i, stage in enumerate(method.stages()) if stage.optimizer is not None)
        for prepare in (stage.prepare, stage.on_stage_start):
            if prepare is not None:
                prepare(data)
        trainer = StageTrainer(stage, index, data.plan(stage.mix, 1), WorkerContext(DeviceConfig(DEVICE, None)), None)
        trainer.total = 10**9
        intervals: dict[bool, list[Interval]] = {False: [], True: []}
        take_interval(trainer, range(2), kept=False)  # makes the optimizer's state
        start = 2
        for number in range(rounds):
            for kept in (number % 2 == 0, number % 2 == 1):
                intervals[kept].append(take_interval(trainer, range(start, start + steps), kept))
                start += steps
    plain, kept_way = (Interval(*map(median, zip(*intervals[kept], strict=True))) for kept in (False, True))
    cells = [name]
    for before, after in ((plain.seconds, kept_way.seconds), (plain.cpu_seconds, kept_way.cpu_seconds)):
        cells += [f"{1000 * before:.0f}", f"{1000 * after:.0f}", f"{before / after:.2f}"]
    return [*cells, f"{plain.faults:.0f}", f"{kept_way.faults:.0f}", f"{plain.mib:.0f}", f"{kept_way.mib:.0f}"]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["cdo", "liac", "dpae"], help="their default parameters are used")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--steps", type=int, default=8, help="of an interval; a real one often has more")
    parser.add_argument("--rounds", type=int, default=5, help="of two intervals each")
    arguments = parser.parse_args()
    rows = [row(name, arguments.size, arguments.steps, arguments.rounds) for name in arguments.methods]
    about = f"{machine(DEVICE)}; images of {arguments.size} px, intervals of {arguments.steps} steps"
    write_result("freed-memory", "Freed memory kept in training", about, [table(HEAD, rows)])


if __name__ == "__main__":
    main()
