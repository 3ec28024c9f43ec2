"""Progress of a training: the update that travels, the actor between workers and driver, and a bar that shows it.

The actor's process must not need torch, so neither does this module.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from types import TracebackType
from typing import Any, NamedTuple, Self

from tqdm import tqdm

from adjobs.waits import announcing


class ProgressUpdate(NamedTuple):
    """Progress within a stage.

    Attributes:
        stage: its name.
        done: steps done.
        total: steps in all.
        loss: mean of the interval.
        images_per_s: of all workers.
        memory_mib: peak of the resident memory of a worker, times their number; 0 if it was not measured.
        gpu_memory_mib: peak of what PyTorch reserved on a worker's GPU, times the number of workers; 0 without a GPU.
    """

    stage: str
    done: int
    total: int
    loss: float
    images_per_s: float
    memory_mib: float = 0.0
    gpu_memory_mib: float = 0.0


def peak_resident_mib() -> float:
    """Peak of the resident memory of this process in MiB, files that it maps included."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


class GroupState(StrEnum):
    """Of the workers of a training whose number may change: placed on their nodes or not, and whether there is room for more."""

    STARTING = "starting"
    TRAINING = "training"
    MAY_GROW = "may grow"


class LatestProgress:
    """Body of the actor between workers and driver: either puts, the other asks."""

    def __init__(self) -> None:
        self._update: ProgressUpdate | None = None
        self._waits: list[str] = []
        self._group = GroupState.STARTING

    def put(self, update: ProgressUpdate) -> None:
        """Keep the latest update."""
        self._update = update

    def get(self) -> ProgressUpdate | None:
        """The latest update, or None before the first."""
        return self._update

    def put_wait(self, text: str) -> None:
        """Keep what the first worker is doing that takes long."""
        self._waits.append(text)

    def take_waits(self) -> list[str]:
        """What was put since the last call."""
        waits, self._waits = self._waits, []
        return waits

    def set_group(self, state: GroupState) -> None:
        """Set the state of the workers."""
        self._group = state

    def group(self) -> GroupState:
        """The state of the workers that was set last."""
        return self._group


@contextmanager
def print_waits(shown: bool) -> Iterator[None]:
    """Print on standard error, above the bars, what takes long in a block; or do not, unless the log shows it."""

    def print_wait(text: str) -> None:
        tqdm.write(f"{text} ...", file=sys.stderr)

    with announcing(print_wait) if shown else nullcontext():
        yield


class ProgressBar:
    """One bar per stage on standard error: steps, loss, images per second, time left."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, update: ProgressUpdate) -> None:
        """Show an update; fewer steps than before mean that the training went back to a checkpoint."""
        bar = self._bar
        if bar is None or update.stage != self._stage:
            if bar is not None:
                bar.close()
            # A log file gets a line now and then, a terminal a live bar.
            interval = 0.1 if sys.stderr.isatty() else 10.0
            bar = tqdm(
                total=update.total, desc=update.stage, unit="step", file=sys.stderr, mininterval=interval, dynamic_ncols=True
            )
            self._bar, self._stage = bar, update.stage
        bar.set_postfix_str(f"loss {update.loss:.4f}, {update.images_per_s:.1f} images/s", refresh=False)
        bar.update(update.done - bar.n)
