"""A search on a terminal: a live table of its trials and the time left. In a log file: a line for each trial that ended."""

from __future__ import annotations

import logging
from collections import Counter
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from adjobs.training.progress import ProgressBar, ProgressUpdate
from adjobs.tuning.search import SearchObserver
from adjobs.tuning.space import format_params
from adjobs.tuning.state import Trial, TrialState
from adjobs.tuning.trial_manager import TrialManager

TABLE_ROWS = 12  # the running trials, then the best

log = logging.getLogger(__name__)


class Display(SearchObserver):
    """What ``adjobs tune`` shows on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._manager: TrialManager | None = None
        self._name = ""
        self._shown: set[int] = set()  # numbers of the ended trials that have their line
        self._bar = ProgressBar()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.on_trials_end()
        self._bar.__exit__(kind, error, trace)

    def on_start(self, name: str, manager: TrialManager) -> None:
        """Show the table."""
        self._name, self._manager = name, manager
        self._shown = {trial.number for trial in manager.ended}
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=1, transient=True)
            self._live.start()

    def on_change(self) -> None:
        """In a log file, write a line for each trial that ended."""
        if self._manager is None or self._live is not None:
            return
        for trial in self._manager.ended:
            if trial.number not in self._shown:
                self._shown.add(trial.number)
                log.info("%s %s", _progress(self._manager), trial_line(trial, self._manager))

    def on_trials_end(self) -> None:
        """Remove the table; the summary takes its place."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def on_progress(self, update: ProgressUpdate) -> None:
        """Show the bar of the final training."""
        self._bar(update)

    def _table(self) -> Any:
        manager = self._manager
        assert manager is not None
        metric = manager.study.objectives[0].metric
        table = Table(title=f"search {self._name} {_progress(manager)}", title_justify="left", box=None)
        for header in ("trial", "state", "interval", metric, "seconds", "parameters"):
            table.add_column(header, overflow="fold")
        ranking = manager.ranking()
        for trial in [*manager.running, *ranking][:TABLE_ROWS]:
            latest = list(trial.history.values())[-1] if trial.history else None
            value = trial.values.get(metric, latest)
            table.add_row(
                str(trial.number),
                "best" if ranking and trial is ranking[0] else "running" if trial.state is None else trial.state.label,
                str(max(trial.history, default=0)),
                "" if value is None else f"{value:.4f}",
                f"{manager.elapsed_seconds(trial):.0f}",
                format_params(trial.params),
            )
        return Group(table, _count_incomplete(manager))


def _progress(manager: TrialManager) -> str:
    return f"[{len(manager.ended)}/{manager.total}, {time_left(manager)}]"


def _count_incomplete(manager: TrialManager) -> str:
    """How many trials ended without completing: ``2 pruned, 1 out of memory``."""
    counts = Counter(trial.state for trial in manager.ended)
    incomplete = (TrialState.PRUNED, TrialState.FAILED, TrialState.OUT_OF_MEMORY)
    return ", ".join(f"{counts[state]} {state.label}" for state in incomplete if counts[state])


def time_left(manager: TrialManager) -> str:
    """The time left, estimated from the mean of the trials so far."""
    ended = manager.ended
    if not ended:
        return "time left unknown"
    mean = sum(trial.seconds for trial in ended) / len(ended)
    remaining = manager.total - len(ended)
    seconds = mean * remaining / max(1, len(manager.running)) + manager.longest_seconds
    if manager.seconds_left is not None:
        seconds = min(seconds, max(0.0, manager.seconds_left))
    return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


def trial_line(trial: Trial, manager: TrialManager) -> str:
    """A trial that ended, in one line."""
    assert trial.state is not None
    metric, ranking = manager.study.objectives[0].metric, manager.ranking()
    value = trial.values.get(metric)
    outcome = f"{metric} {value:.4f}" if value is not None else trial.reason
    mark = " (best so far)" if ranking and ranking[0] is trial else ""
    return f"trial {trial.number} {trial.state.label} after {trial.seconds:.0f} s: {outcome}{mark}; {format_params(trial.params)}"
