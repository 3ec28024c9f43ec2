"""A progress bar on standard error, fed by ticks from wherever the training runs."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from adjobs.training.loop import ProgressUpdate


class ProgressBar:
    """One bar per stage: steps, loss, images per second, time left."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, tick: ProgressUpdate) -> None:
        """Show a tick; a number of steps below the last one means that the training went back to a checkpoint."""
        bar = self._bar
        if bar is None or tick.stage != self._stage:
            if bar is not None:
                bar.close()
            # A log file gets a line now and then, a terminal a living bar.
            pause = 0.1 if sys.stderr.isatty() else 10.0
            bar = tqdm(total=tick.total, desc=tick.stage, unit="step", file=sys.stderr, mininterval=pause, dynamic_ncols=True)
            self._bar, self._stage = bar, tick.stage
        bar.set_postfix_str(f"loss {tick.loss:.4f}, {tick.images_per_s:.1f} images/s", refresh=False)
        bar.update(tick.done - bar.n)
