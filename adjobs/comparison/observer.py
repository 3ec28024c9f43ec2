"""Who is called while a comparison runs: nobody, or a person at a terminal."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from adjobs.tracking.layout import RunRef
from adjobs.training.progress import ProgressBar, ProgressUpdate

log = logging.getLogger(__name__)


class ComparisonObserver:
    """Called while a comparison runs; this one does nothing."""

    def on_open(self, run: RunRef) -> None:
        """The run of the comparison is open."""

    def on_training_start(self, text: str) -> None:
        """A training starts, such as ``method 2 of 5 (cdo)``."""

    def on_training_end(self, text: str) -> None:
        """A training ended, such as ``cdo: image_auroc 0.912 after 83 s``."""

    def on_progress(self, update: ProgressUpdate) -> None:
        """The training progressed."""


class Display(ComparisonObserver):
    """What ``adjobs compare`` shows on standard error: a line for each training, and a bar."""

    def __init__(self) -> None:
        self._bar = ProgressBar()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.__exit__(kind, error, trace)

    def on_training_start(self, text: str) -> None:
        """Write a line, and start a new bar."""
        self._close_bar()
        log.info("%s", text)

    def on_training_end(self, text: str) -> None:
        """Write a line."""
        self._close_bar()
        log.info("%s", text)

    def on_progress(self, update: ProgressUpdate) -> None:
        """Show the bar."""
        self._bar(update)

    def _close_bar(self) -> None:
        self._bar.__exit__(None, None, None)
        self._bar = ProgressBar()
