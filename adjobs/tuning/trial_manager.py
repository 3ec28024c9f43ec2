"""The trials of a search: which starts next, and how each ends. Knows nothing of Ray and MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from adjobs.errors import JobError
from adjobs.tuning.finalists import (
    BEST_REPEATED,
    SEED_KEY,
    Finalist,
    choose_finalists,
    further_seeds,
    is_repeat,
    rank_finalists,
    repeated,
)
from adjobs.tuning.space import TrialParams
from adjobs.tuning.state import Trial, TrialState
from adjobs.tuning.study import Study

# Time of the final training by that of the longest trial: it also evaluates the test split, draws figures and stores the model.
FINAL_TRAINING_FACTOR = 1.25


@dataclass(frozen=True)
class Limits:
    """How much a search may do.

    Attributes:
        trials: in all, without repeats.
        max_concurrent: trials at once.
        time_budget_s: seconds from now in which trials and final training are to end; None: no limit.
        max_retries: of a trial whose process was lost.
        repeats: further seeds with which the finalists are trained when all trials have ended.
    """

    trials: int
    max_concurrent: int
    time_budget_s: float | None = None
    max_retries: int = 3
    repeats: int = 0


class TrialStore(Protocol):
    """Where trials are recorded."""

    def open(self, number: int, params: TrialParams) -> Trial:
        """Open a run for a new trial."""
        ...

    def save(self, trial: Trial) -> None:
        """Record a trial that will be retried."""
        ...

    def close(self, trial: Trial) -> None:
        """Record how a trial ended."""
        ...

    def log_best(self, best: Trial, ended: int) -> None:
        """Record the best trial so far, after this many have ended."""
        ...


class TrialManager:
    """Decides which trial starts next, and records how each ends.

    Args:
        study: suggests values and learns from results.
        limits: of this search.
        store: records the trials.
        exclusive_device: each trial has its GPU or its workers for itself, so that several may run before one's memory is known.
        clock: in seconds.
    """

    def __init__(
        self,
        study: Study,
        limits: Limits,
        store: TrialStore,
        *,
        exclusive_device: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study, self.limits = study, limits
        self.trials: dict[int, Trial] = {}
        self.started_at = clock()
        self._store, self._exclusive_device, self._clock = store, exclusive_device, clock
        self._is_exhausted = False

    def restore(self, trial: Trial, *, is_closed: bool = True) -> None:
        """Add a trial of a search that is resumed. Without a state it will be continued.

        Args:
            trial: as it was recorded.
            is_closed: whether its end was fully recorded; otherwise that is completed.
        """
        self.trials[trial.number] = trial
        self.study.add_trial(trial.number, trial.params)
        for step, (_, value) in enumerate(sorted(trial.history.items()), start=1):
            self.study.report(trial.number, step, value)
        if trial.state is not None:
            self._report_end(trial)
            if not is_closed:
                self._close(trial)

    @property
    def searched(self) -> list[Trial]:
        """All trials but repeats."""
        return [trial for trial in self.trials.values() if not is_repeat(trial)]

    @property
    def running(self) -> list[Trial]:
        """Trials that have a process, or wait for one."""
        return [trial for trial in self.trials.values() if trial.is_running]

    @property
    def ended(self) -> list[Trial]:
        """Trials that have ended, in whatever way."""
        return [trial for trial in self.trials.values() if trial.state is not None]

    @property
    def peak_memory_mib(self) -> float | None:
        """The largest memory of a trial so far; None before the first has completed."""
        key = "peak_memory_mib"
        return max((trial.values[key] for trial in self.trials.values() if key in trial.values), default=None)

    @property
    def seconds_left(self) -> float | None:
        """Seconds of the time budget that are left; None without a budget."""
        budget = self.limits.time_budget_s
        return None if budget is None else self.started_at + budget - self._clock()

    @property
    def longest_seconds(self) -> float:
        """Seconds of the longest trial so far, running ones included."""
        return max(map(self.elapsed_seconds, self.trials.values()), default=0.0)

    def elapsed_seconds(self, trial: Trial) -> float:
        """What a trial has taken so far."""
        return trial.seconds + self._current_seconds(trial)

    def next_trial(self) -> Trial | None:
        """The trial to start now; None to wait, or, when nothing runs, because the search is over."""
        running = self.running
        is_first_alone = self.peak_memory_mib is None and not self._exclusive_device
        most = 1 if is_first_alone else self.limits.max_concurrent
        if any(trial.exclusive for trial in running) or len(running) >= most:
            return None
        self._end_late_trials()
        waiting = self._waiting()
        if waiting and not (waiting[0].exclusive and running):
            return self._request(waiting[0])
        if waiting:
            return None
        number = max(self.trials, default=-1) + 1
        params = self._next_params(number)
        if params is None:
            return None
        self.trials[number] = self._store.open(number, params)
        return self._request(self.trials[number])

    def _next_params(self, number: int) -> TrialParams | None:
        """What a new trial tries: values that the study suggests, and when all those have ended, a finalist with another seed."""
        if self._can_open_another():
            params = self.study.suggest(number)
            if params is not None:
                return params
            self._is_exhausted = True
        return next(iter(self._missing_repeats()), None)

    def _missing_repeats(self) -> list[TrialParams]:
        """The repeats that are still to be opened, as far as there is time for one."""
        if any(trial.state is None for trial in self.searched) or not self._is_in_time(0.0):
            return []
        opened = [trial.params for trial in self.trials.values()]
        wanted = [repeated(trial.params, seed) for seed in self._further_seeds for trial in self._finalists()]
        return [params for params in wanted if params not in opened]

    @property
    def _further_seeds(self) -> list[int]:
        return further_seeds(self.study.job.train.seed, self.limits.repeats)

    def _waiting(self) -> list[Trial]:
        """Trials to continue, in the order in which they start: those that need the machines to themselves come last."""
        waiting = [trial for trial in self.trials.values() if trial.state is None and not trial.is_running]
        return sorted(waiting, key=lambda trial: (trial.exclusive, trial.number))

    def _end_late_trials(self) -> None:
        """Prune the waiting trials that the time budget no longer has time for."""
        for trial in self._waiting():
            if not self._is_in_time(trial.seconds):
                self._end(trial, TrialState.PRUNED, "no time was left to retry it")

    @property
    def is_over(self) -> bool:
        """Whether nothing runs, waits or will be started."""
        return len(self.ended) == len(self.trials) and not self._can_open_another() and not self._missing_repeats()

    def _can_open_another(self) -> bool:
        return not self._is_exhausted and len(self.searched) < self.limits.trials and self._is_in_time(0.0)

    def _is_in_time(self, elapsed: float) -> bool:
        """Whether there is time for the rest of a trial that has taken this long, and for the final training."""
        left = self.seconds_left
        return left is None or left > (1 + FINAL_TRAINING_FACTOR) * self.longest_seconds - elapsed

    def _request(self, trial: Trial) -> Trial:
        trial.requested, trial.started_at = True, None
        return trial

    def on_start(self, number: int) -> None:
        """The process of a trial has started; its waiting time does not count."""
        self.trials[number].started_at = self._clock()

    def on_report(self, number: int, interval: int, value: float, *, is_last: bool = False) -> bool:
        """Take the first objective after an interval; returns whether to stop the trial. A repeated interval is ignored.

        After its last interval a trial is complete, however it compares: nothing is left to save by stopping it.
        """
        trial = self.trials[number]
        if trial.state is not None:
            return True
        if interval in trial.history:
            return False
        trial.history[interval] = value
        # Pruners compare trials after equally many validations; some stages have intervals without one.
        if not self.study.report(number, len(trial.history), value) or is_last:
            return False
        reason = f"{self.study.config.pruner}: {value:.4g} after interval {interval} is below its peers"
        self._end(trial, TrialState.PRUNED, reason)
        return True

    def on_complete(self, number: int, values: dict[str, float]) -> None:
        """A trial reached its end.

        Raises:
            JobError: it lacks an objective, and so will all others.
        """
        trial, objectives = self.trials[number], self.study.objectives
        if trial.state is not None:
            return
        trial.values = values
        missing = [objective.metric for objective in objectives if objective.metric not in values]
        if not missing:
            self._end(trial, TrialState.COMPLETE, "")
            return
        self._end(trial, TrialState.FAILED, f"{', '.join(missing)} is not defined on its validation split")
        if not any(other.objective_values(objectives) for other in self.trials.values()):
            available = ", ".join(sorted(values))
            raise JobError(f"--metric {missing[0]}: not defined on this validation split; available: {available}")

    def on_error(self, number: int, reason: str) -> None:
        """A trial failed for a reason that would come again: a loss that is not finite, data that lack something."""
        if self.trials[number].state is None:
            self._end(self.trials[number], TrialState.FAILED, reason)

    def on_process_lost(self, number: int, reason: str, *, out_of_memory: bool) -> None:
        """The process of a trial was lost. Out of memory, it is retried once, exclusively; otherwise as often as the job allows.

        An operating system that runs out of memory may kill a process without a message: the last retry is therefore exclusive.
        """
        trial = self.trials[number]
        if trial.state is not None:
            return
        trial.seconds += self._current_seconds(trial)
        trial.failures, trial.requested, trial.started_at = trial.failures + 1, False, None
        if out_of_memory and trial.exclusive:
            self._end(trial, TrialState.OUT_OF_MEMORY, f"also without other trials beside it: {reason}")
        elif not out_of_memory and trial.failures > self.limits.max_retries:
            self._end(trial, TrialState.FAILED, f"worker process was lost {trial.failures} times: {reason}")
        else:
            trial.exclusive = trial.exclusive or out_of_memory or trial.failures == self.limits.max_retries
            self._store.save(trial)

    def _current_seconds(self, trial: Trial) -> float:
        return 0.0 if trial.started_at is None else self._clock() - trial.started_at

    def _end(self, trial: Trial, state: TrialState, reason: str) -> None:
        trial.seconds += self._current_seconds(trial)
        trial.state, trial.reason, trial.started_at = state, reason, None
        self._report_end(trial)
        self._close(trial)

    def _report_end(self, trial: Trial) -> None:
        if trial.state == TrialState.PRUNED:
            self.study.prune(trial.number)
        else:
            self.study.finish(trial.number, trial.objective_values(self.study.objectives))

    def _close(self, trial: Trial) -> None:
        self._store.close(trial)
        ranking = self.ranking()
        if ranking and not is_repeat(trial):
            self._store.log_best(ranking[0], len(self.ended))

    def ranking(self) -> list[Trial]:
        """Complete trials without repeats, the best by the first objective first."""
        objective = self.study.objectives[0]
        complete = [trial for trial in self.searched if trial.objective_values(self.study.objectives) is not None]
        return sorted(complete, key=lambda trial: trial.values[objective.metric], reverse=objective.direction == "max")

    def _finalists(self) -> list[Trial]:
        return choose_finalists(self.ranking(), has_baseline=self.study.has_baseline_trial)

    def finalists(self) -> list[Finalist]:
        """The best trials and the job as it is with all their seeds, the best mean first: the first one is the choice."""
        objective = self.study.objectives[0]
        finalists = []
        for finalist in self._finalists():
            values = {self.study.job.train.seed: finalist.values[objective.metric]}
            for trial in filter(is_repeat, self.trials.values()):
                seed = trial.params[SEED_KEY]
                if trial.params == repeated(finalist.params, seed) and objective.metric in trial.values:
                    values[seed] = trial.values[objective.metric]
            finalists.append(Finalist(finalist.number, values))
        return rank_finalists(finalists, objective)

    @property
    def total(self) -> int:
        """Number of trials with repeats when the search is over, unless time or values run out."""
        finalists = max(len(self._finalists()), min(BEST_REPEATED, self.limits.trials))
        repeats = sum(map(is_repeat, self.trials.values()))
        return self.limits.trials + max(repeats, finalists * self.limits.repeats)
