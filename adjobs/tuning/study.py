"""What to try next, and what to stop early: Optuna's samplers and pruners, without a state that could be lost.

The study lives in memory. Whatever it knows it was told of trials, all of which stand in MLflow, so that a search goes on by
telling it again. Samplers hold no state either: each is made anew from the search's seed and the number of the trial.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from adjobs.config.job import JobConfig
from adjobs.errors import JobError
from adjobs.tuning.objective import Objective
from adjobs.tuning.space import Point, Space

Sampler = Literal["tpe", "random", "grid"]
Stopper = Literal["asha", "median", "none"]
REDUCTION = 3  # ASHA keeps the best third at each rung (Li et al. 2020 use 4, Hyperband 3)
UNSTOPPED = 4  # trials that the median needs before it stops any
FEW = 5  # finished trials say nothing of what mattered
DRAWS = 200  # in a row that the method's configuration may refuse


class Rules(NamedTuple):
    """How a search chooses: sampler, stopper, the validated rounds that every trial gets, and the seed of the draws."""

    sampler: Sampler
    stopper: Stopper
    grace: int
    seed: int


class Study:
    """The knowledge of a search.

    Args:
        space: what varies.
        job: in which it varies.
        goals: what the search is after.
        rules: how it chooses.
        fits: raises JobError for points whose values do not fit together; None: what the job itself says.
    """

    def __init__(
        self,
        space: Space,
        job: JobConfig,
        goals: tuple[Objective, ...],
        rules: Rules,
        fits: Callable[[Point], object] | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.space, self.job, self.goals, self.rules = space, job, goals, rules
        self._fits = fits or (lambda point: space.job_at(point, job))
        self.refused = 0  # draws whose values do not fit together
        self._known: list[Point] = []
        self._points = space.grid(job) if rules.sampler == "grid" else None
        directions = [StudyDirection.MAXIMIZE if goal.direction == "max" else StudyDirection.MINIMIZE for goal in goals]
        self._study = optuna.create_study(directions=directions, pruner=_pruner(rules))
        self._trials: dict[int, optuna.Trial] = {}

    @property
    def begins_with_the_job(self) -> bool:
        """Whether trial 0 is the job as it was given."""
        return self._points is None

    def ask(self, number: int) -> Point | None:
        """The point of a new trial: the job as it is first, then what the sampler suggests. None where nothing new is left.

        Raises:
            JobError: the method's configuration refuses all that was drawn.
        """
        if self._points is not None:
            if number >= len(self._points):
                return None
            self.begin(number, self._points[number])
            return self._points[number]
        if number == 0:
            as_it_is = self.space.point_of(self.job)
            if as_it_is is not None:
                self.begin(number, as_it_is)
            return as_it_is or {}
        reason: JobError | None = None
        twice = False
        for again in range(DRAWS):
            self._study.sampler = _sampler(self.rules, number, again)
            trial = self._study.ask()
            point = self.space.draw(trial, self.job)
            if point in self._known:
                twice = True
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            try:
                self._fits(point)
            except JobError as error:
                self.refused, reason = self.refused + 1, error
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            self._trials[number] = trial
            self._known.append(point)
            return point
        if reason is None or twice:
            return None
        raise JobError(
            f"{self.space.source}: {DRAWS} points in a row do not fit the method, the last: {reason}; narrow the space"
        )

    def begin(self, number: int, point: Point) -> None:
        """A trial with a given point. One that is not in the space is tried, but nothing is learnt from it."""
        self._known.append(point)
        axes = {axis.key: axis for axis in self.space.axes}
        if not point or any(key not in axes or not axes[key].holds(value) for key, value in point.items()):
            return
        self._study.enqueue_trial(point)
        trial = self._study.ask()
        self.space.draw(trial, self.job)
        self._trials[number] = trial

    def report(self, number: int, step: int, value: float) -> bool:
        """Tell of a validation, the first being step 1; returns whether to stop the trial.

        Never the job as it was given: all are compared with it.
        """
        trial = self._trials.get(number)
        if trial is None or len(self.goals) > 1 or self.rules.stopper == "none":
            return False
        trial.report(value, step)
        return bool(trial.should_prune()) and not (number == 0 and self.begins_with_the_job)

    def finish(self, number: int, values: tuple[float, ...] | None) -> None:
        """Tell of a trial's end; values are None where it has none."""
        trial = self._trials.get(number)
        if trial is not None:
            self._study.tell(trial, values, state=TrialState.FAIL if values is None else TrialState.COMPLETE)

    def stop(self, number: int) -> None:
        """Tell that a trial was stopped early."""
        trial = self._trials.get(number)
        if trial is not None:
            self._study.tell(trial, state=TrialState.PRUNED)

    def importance(self) -> dict[str, float]:
        """Share of the first objective's variance that each key explains (fANOVA, Hutter et al. 2014); empty where unknown."""
        if len(self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < FEW:
            return {}
        try:
            first = None if len(self.goals) == 1 else (lambda trial: trial.values[0])
            found = optuna.importance.get_param_importances(
                self._study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=self.rules.seed), target=first
            )
        except (RuntimeError, ValueError):  # no key that all of them have, or all are equally good
            return {}
        return {key: float(value) for key, value in found.items()}


def _sampler(rules: Rules, number: int, again: int) -> optuna.samplers.BaseSampler:
    """A sampler with a seed of this trial's own."""
    seed = (rules.seed * 1_000_003 + number * 1_009 + again) % 2**32
    if rules.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # Values that are being tried count as bad, so that trials side by side do not try the same.
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _pruner(rules: Rules) -> optuna.pruners.BasePruner:
    if rules.stopper == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=rules.grace, reduction_factor=REDUCTION)
    if rules.stopper == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=UNSTOPPED, n_warmup_steps=rules.grace)
    return optuna.pruners.NopPruner()
