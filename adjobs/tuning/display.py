"""A search on a terminal: a living table of its trials and the time left; in a log file a line for each trial."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from adjobs.training.progress import ProgressBar, ProgressUpdate
from adjobs.tuning.search import Watch
from adjobs.tuning.space import in_words
from adjobs.tuning.trial_manager import Queue, Trial

ROWS = 12  # of the table: those at work, then the best


class Display(Watch):
    """What ``adjobs tune`` shows on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._queue: Queue | None = None
        self._name = ""
        self._told: set[int] = set()
        self._bar = ProgressBar()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()
        self._bar.__exit__(kind, error, trace)

    def begin(self, name: str, queue: Queue) -> None:
        """Say how the search is called, and show the table."""
        self._name, self._queue = name, queue
        self._told = {trial.number for trial in queue.trials.values() if trial.outcome is not None}
        print(f"search {name}: go on with 'adjobs tune --resume {name}' if this is stopped", file=sys.stderr)
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=1, transient=True)
            self._live.start()

    def changed(self) -> None:
        """In a log file: a line for each trial that ended."""
        if self._queue is None or self._live is not None:
            return
        for trial in list(self._queue.trials.values()):
            if trial.outcome is not None and trial.number not in self._told:
                self._told.add(trial.number)
                print(f"{self._place()} {line(trial, self._queue)}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The table goes; the summary takes its place."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def tick(self, tick: ProgressUpdate) -> None:
        """The bar of the final training."""
        self._bar(tick)

    def _place(self) -> str:
        assert self._queue is not None
        ended = sum(trial.outcome is not None for trial in self._queue.trials.values())
        return f"[{ended}/{self._queue.limits.trials}, {left(self._queue)}]"

    def _table(self) -> Any:
        queue = self._queue
        assert queue is not None
        goal = queue.study.goals[0]
        table = Table(title=f"search {self._name} {self._place()}", title_justify="left", box=None)
        for head in ("trial", "state", "rounds", goal.metric, "seconds", "changed"):
            table.add_column(head, overflow="fold")
        best = queue.best()
        for trial in [*queue.running, *best][:ROWS]:
            value = trial.values.get(goal.metric, list(trial.history.values())[-1] if trial.history else None)
            table.add_row(
                str(trial.number),
                "running" if trial.running else ("best" if best and trial is best[0] else str(trial.outcome)),
                str(max(trial.history, default=0)),
                "" if value is None else f"{value:.4f}",
                f"{queue.seconds(trial):.0f}",
                in_words(trial.point),
            )
        counts = {
            name: sum(t.outcome == name for t in queue.trials.values()) for name in ("stopped early", "failed", "out of memory")
        }
        return Group(table, ", ".join(f"{count} {name}" for name, count in counts.items() if count))


def left(queue: Queue) -> str:
    """The time left, from the mean of the trials so far."""
    ended = [trial for trial in queue.trials.values() if trial.outcome is not None]
    if not ended:
        return "time left unknown"
    mean = sum(trial.seconds for trial in ended) / len(ended)
    todo = queue.limits.trials - len(ended)
    seconds = mean * todo / max(1, len(queue.running)) + queue.longest
    if queue.left is not None:
        seconds = min(seconds, max(0.0, queue.left))
    return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


def line(trial: Trial, queue: Queue) -> str:
    """A trial that ended, in one line."""
    goal, best = queue.study.goals[0], queue.best()
    value = trial.values.get(goal.metric)
    found = f"{goal.metric} {value:.4f}" if value is not None else trial.reason
    mark = " (best so far)" if best and best[0] is trial else ""
    return f"trial {trial.number} {trial.outcome} after {trial.seconds:.0f} s: {found}{mark}; {in_words(trial.point)}"
