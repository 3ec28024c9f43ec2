"""The progress of a pass on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from adjobs.retraining.observer import RetrainObserver
from adjobs.training.progress import ProgressBar, ProgressUpdate


class PassProgress(RetrainObserver):
    """A line for each step, and a bar while it trains."""

    def __init__(self) -> None:
        self._bar = ProgressBar()

    def __enter__(self) -> Self:
        """Show progress until the end of the block."""
        self._bar.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the bar."""
        self._bar.__exit__(kind, error, trace)

    def on_progress(self, update: ProgressUpdate) -> None:
        """The training progressed."""
        self._bar(update)
