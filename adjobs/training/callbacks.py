"""Callbacks of the training loop."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from adjobs.training.progress import ProgressUpdate


class IntervalResult(NamedTuple):
    """A finished evaluation interval.

    Attributes:
        number: of the checkpoint that follows it, counted from 1 over all stages; the x axis of every metric.
        metrics: everything to record for it, such as ``train/loss`` and ``val/image_auroc``.
    """

    number: int
    metrics: dict[str, float]


class Callback(Protocol):
    """Called on rank 0 only."""

    def on_progress(self, update: ProgressUpdate) -> None:
        """Every half second or so."""
        ...

    def on_interval_end(self, result: IntervalResult) -> None:
        """After every evaluation interval, before its checkpoint is stored."""
        ...


class SilentCallback:
    """Does nothing: for workers other than rank 0."""

    def on_progress(self, update: ProgressUpdate) -> None:
        """Only rank 0 reports."""

    def on_interval_end(self, result: IntervalResult) -> None:
        """Only rank 0 reports."""
