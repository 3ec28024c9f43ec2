"""The trials of a search: which starts next, and what became of each. Nothing of Ray, nothing of MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from adjobs.errors import JobError
from adjobs.tuning.objective import Objective
from adjobs.tuning.space import Point
from adjobs.tuning.study import Study

Outcome = Literal["finished", "stopped early", "out of memory", "failed"]
SLACK = 1.15  # of memory above the measured peak: the next trial's allocator will not do quite the same
FINAL = 1.25  # of the longest trial's time: the final training, which is also tested, drawn and stored as a model


@dataclass
class Trial:
    """One point of a search.

    Attributes:
        number: from 0, in the order of starting.
        point: its keys and values.
        run_id: of its MLflow run.
        history: the first objective by round.
        outcome: what became of it; None before its end.
        reason: why it was stopped or failed.
        values: its metrics at the end.
        seconds: that it took.
        deaths: of its process.
        alone: it ran out of memory beside others, or may have, and must have the machines to itself.
        asked: whether a process was asked for it and has not ended.
        begun: when that process was there; None before.
    """

    number: int
    point: Point
    run_id: str
    history: dict[int, float] = field(default_factory=dict)
    outcome: Outcome | None = None
    reason: str = ""
    values: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    deaths: int = 0
    alone: bool = False
    asked: bool = False
    begun: float | None = None

    @property
    def running(self) -> bool:
        """Whether it has a process, or waits for room for one."""
        return self.asked and self.outcome is None

    def objectives(self, goals: tuple[Objective, ...]) -> tuple[float, ...] | None:
        """Its values of the objectives; None where it has not finished with all of them."""
        found = [self.values.get(goal.metric) for goal in goals]
        if self.outcome != "finished" or any(value is None for value in found):
            return None
        return tuple(value for value in found if value is not None)


class Limits(NamedTuple):
    """How much a search may do: trials in all, trials at once, seconds from now, restarts of a trial whose process died."""

    trials: int
    concurrent: int
    seconds: float | None = None
    retries: int = 3


class Queue:
    """Trials in order, each opened when it is to start.

    Args:
        study: suggests points and is told of values.
        limits: of this search.
        opened: opens a run for a number and a point; returns the trial.
        waiting: told of a trial whose process died and that will be tried again.
        closed: told of each trial's end.
        crowded: whether several trials may run before one was measured.
        clock: in seconds.
    """

    def __init__(
        self,
        study: Study,
        limits: Limits,
        opened: Callable[[int, Point], Trial],
        waiting: Callable[[Trial], None],
        closed: Callable[[Trial], None],
        *,
        crowded: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study, self.limits = study, limits
        self.trials: dict[int, Trial] = {}
        self.begin = clock()
        self._opened, self._waiting, self._closed = opened, waiting, closed
        self._crowded, self._clock = crowded, clock
        self._exhausted = False

    def known(self, trial: Trial) -> None:
        """A trial of an earlier part of this search: its history is told again; without an outcome it will go on."""
        self.trials[trial.number] = trial
        self.study.begin(trial.number, trial.point)
        for step, (_, value) in enumerate(sorted(trial.history.items()), start=1):
            self.study.report(trial.number, step, value)
        if trial.outcome is not None:
            self._tell(trial)

    @property
    def running(self) -> list[Trial]:
        """Those at work."""
        return [trial for trial in self.trials.values() if trial.running]

    @property
    def peak_mib(self) -> float | None:
        """The largest memory of a trial so far; None before the first has finished."""
        return max(
            (trial.values["peak_memory_mib"] for trial in self.trials.values() if "peak_memory_mib" in trial.values), default=None
        )

    @property
    def left(self) -> float | None:
        """Seconds until the end that was asked for."""
        return None if self.limits.seconds is None else self.begin + self.limits.seconds - self._clock()

    @property
    def longest(self) -> float:
        """Seconds of the longest trial so far, running ones as far as they are."""
        return max(map(self.seconds, self.trials.values()), default=0.0)

    def seconds(self, trial: Trial) -> float:
        """What a trial has taken so far."""
        return trial.seconds + self._since(trial)

    def next(self) -> Trial | None:
        """The trial to start now; None to wait, or, when nothing runs, because the search is at its end."""
        running = self.running
        unmeasured = self.peak_mib is None and not self._crowded
        if any(trial.alone for trial in running) or len(running) >= (1 if unmeasured else self.limits.concurrent):
            return None
        waiting = sorted(
            (t for t in self.trials.values() if t.outcome is None and not t.running), key=lambda t: (t.alone, t.number)
        )
        late = [trial for trial in waiting if not self._in_time(trial.seconds)]
        for trial in late:
            self._end(trial, "stopped early", "no time was left to try it again")
        waiting = [trial for trial in waiting if trial not in late]
        if waiting and not (waiting[0].alone and running):
            return self._start(waiting[0])
        if waiting or not self._worthwhile():
            return None
        number = max(self.trials, default=-1) + 1
        point = self.study.ask(number)
        if point is None:
            self._exhausted = True
            return None
        self.trials[number] = self._opened(number, point)
        return self._start(self.trials[number])

    @property
    def over(self) -> bool:
        """Whether nothing runs, waits or will be started."""
        return not any(trial.outcome is None for trial in self.trials.values()) and not self._worthwhile()

    def _worthwhile(self) -> bool:
        """Whether to start another trial: there is one, and time for it."""
        return not self._exhausted and len(self.trials) < self.limits.trials and self._in_time(0.0)

    def _in_time(self, done: float) -> bool:
        """Whether there is time for a trial that has taken ``done`` seconds so far, and for the training of what is chosen."""
        return self.left is None or self.left > (1 + FINAL) * self.longest - done

    def _start(self, trial: Trial) -> Trial:
        trial.asked, trial.begun = True, None
        return trial

    def started(self, number: int) -> None:
        """The process of a trial is there; what it waited for it does not count."""
        self.trials[number].begun = self._clock()

    def reported(self, number: int, round_: int, value: float) -> bool:
        """A round's value of the first objective; returns whether the trial is to stop. A round is told once."""
        trial = self.trials[number]
        if trial.outcome is not None:
            return True
        if round_ in trial.history:
            return False
        trial.history[round_] = value
        # Stoppers compare trials by how often these were validated: some stages are not.
        if not self.study.report(number, len(trial.history), value):
            return False
        self._end(trial, "stopped early", f"{self.study.rules.stopper}: {value:.4g} after round {round_} is below its peers")
        return True

    def finished(self, number: int, values: dict[str, float]) -> None:
        """A trial reached its end.

        Raises:
            JobError: it was not measured by the search's objectives, nor will any other be.
        """
        trial = self.trials[number]
        if trial.outcome is not None:
            return
        trial.values = values
        missing = [goal.metric for goal in self.study.goals if goal.metric not in values]
        if missing:
            self._end(trial, "failed", f"{', '.join(missing)} is not defined on its validation part")
            if not any(other.objectives(self.study.goals) for other in self.trials.values()):
                have = ", ".join(sorted(values))
                raise JobError(f"--metric {missing[0]}: not defined on this validation part; have {have}")
            return
        self._end(trial, "finished", "")

    def refused(self, number: int, reason: str) -> None:
        """A trial found something wrong that will be wrong again: a loss that is not finite, data that lack something."""
        if self.trials[number].outcome is None:
            self._end(self.trials[number], "failed", reason)

    def died(self, number: int, reason: str, *, memory: bool) -> None:
        """The process of a trial ended. Out of memory, it gets one more try alone; else as many as the job allows.

        A system that is out of memory may kill without a word, so that the last of these tries is alone, too.
        """
        trial = self.trials[number]
        if trial.outcome is not None:
            return
        trial.seconds += self._since(trial)
        trial.deaths, trial.asked, trial.begun = trial.deaths + 1, False, None
        if memory and trial.alone:
            self._end(trial, "out of memory", f"even alone: {reason}")
        elif not memory and trial.deaths > self.limits.retries:
            self._end(trial, "failed", f"its process died {trial.deaths} times: {reason}")
        else:
            trial.alone = trial.alone or memory or trial.deaths == self.limits.retries
            self._waiting(trial)

    def _since(self, trial: Trial) -> float:
        return 0.0 if trial.begun is None else self._clock() - trial.begun

    def _end(self, trial: Trial, outcome: Outcome, reason: str) -> None:
        trial.seconds += self._since(trial)
        trial.outcome, trial.reason, trial.begun = outcome, reason, None
        self._tell(trial)
        self._closed(trial)

    def _tell(self, trial: Trial) -> None:
        if trial.outcome == "stopped early":
            self.study.stop(trial.number)
        else:
            self.study.finish(trial.number, trial.objectives(self.study.goals))

    def best(self) -> list[Trial]:
        """Finished trials, the best first by the first objective."""
        goal = self.study.goals[0]
        found = [trial for trial in self.trials.values() if trial.objectives(self.study.goals) is not None]
        return sorted(found, key=lambda trial: trial.values[goal.metric], reverse=goal.direction == "max")
