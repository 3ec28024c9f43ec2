"""What to try next, and what to prune: Optuna's samplers and pruners, without a state that could be lost.

The study lives in memory. All it knows are the trials, which MLflow holds, so a resumed search adds them again. Samplers have no
state either: each is made from the search's seed and the number of the trial.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.study import StudyDirection

from adjobs.config.job import JobConfig
from adjobs.errors import JobError
from adjobs.tuning.objective import Objective
from adjobs.tuning.space import Space, TrialParams

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["asha", "median", "none"]

REDUCTION_FACTOR = 3  # ASHA keeps the best third at each rung (Li et al. 2020 use 4, Hyperband 3)
MEDIAN_STARTUP_TRIALS = 4  # before the median pruner prunes any
MIN_TRIALS_FOR_IMPORTANCE = 5  # fewer complete trials say nothing about what mattered
MAX_DRAWS = 200  # in a row that may be rejected

_State = optuna.trial.TrialState


@dataclass(frozen=True)
class SearchConfig:
    """How a search chooses.

    Attributes:
        sampler: what suggests values.
        pruner: what ends trials early.
        grace_period: validations that every trial gets before it may be pruned.
        seed: of the sampler.
    """

    sampler: Sampler
    pruner: Pruner
    grace_period: int
    seed: int


class Study:
    """What a search knows.

    Args:
        space: what varies.
        job: in which it varies.
        objectives: what is optimised.
        config: how the search chooses.
        check: raises JobError for values that do not fit together; None: only the job itself is checked.
    """

    def __init__(
        self,
        space: Space,
        job: JobConfig,
        objectives: tuple[Objective, ...],
        config: SearchConfig,
        check: Callable[[TrialParams], object] | None = None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.space, self.job, self.objectives, self.config = space, job, objectives, config
        self.rejected_draws = 0  # whose values do not fit together
        self._check = check or (lambda params: space.apply(params, job))
        self._known: list[TrialParams] = []
        self._grid = space.grid(job) if config.sampler == "grid" else None
        directions = [
            StudyDirection.MAXIMIZE if objective.direction == "max" else StudyDirection.MINIMIZE for objective in objectives
        ]
        self._study = optuna.create_study(directions=directions, pruner=_make_pruner(config))
        self._trials: dict[int, optuna.Trial] = {}

    @property
    def has_baseline_trial(self) -> bool:
        """Whether trial 0 is the job as it is."""
        return self._grid is None

    def suggest(self, number: int) -> TrialParams | None:
        """The values of a new trial: first the job as it is, then what the sampler suggests. None when nothing new is left.

        Raises:
            JobError: all that was drawn is rejected.
        """
        if self._grid is not None:
            point = next((point for point in self._grid if point not in self._known), None)
            if point is not None:
                self.add_trial(number, point)
            return point
        if number > 0:
            return self._draw(number)
        params = self.space.params_of(self.job)
        if params is not None:
            self.add_trial(number, params)
        return params or {}

    def _draw(self, number: int) -> TrialParams | None:
        """New values that fit together."""
        last_error: JobError | None = None
        has_repeated = False
        for attempt in range(MAX_DRAWS):
            self._study.sampler = _make_sampler(self.config, number, attempt)
            trial = self._study.ask()
            params = self.space.suggest(trial, self.job)
            if params in self._known:
                has_repeated = True
                self._study.tell(trial, state=_State.FAIL)
                continue
            try:
                self._check(params)
            except JobError as error:
                self.rejected_draws, last_error = self.rejected_draws + 1, error
                self._study.tell(trial, state=_State.FAIL)
                continue
            self._trials[number] = trial
            self._known.append(params)
            return params
        if last_error is None or has_repeated:
            return None
        raise JobError(
            f"{self.space.source}: {MAX_DRAWS} draws in a row do not fit the method, the last: {last_error}; narrow the space"
        )

    def add_trial(self, number: int, params: TrialParams) -> None:
        """Add a trial with given values. If they are not in the space, nothing is learnt from it."""
        self._known.append(params)
        parameters = {parameter.key: parameter for parameter in self.space.parameters}
        if not params or any(key not in parameters or not parameters[key].contains(value) for key, value in params.items()):
            return
        self._study.enqueue_trial(params)
        trial = self._study.ask()
        self.space.suggest(trial, self.job)
        self._trials[number] = trial

    def report(self, number: int, step: int, value: float) -> bool:
        """Report a validation, the first being step 1; returns whether to prune the trial.

        The baseline is never pruned, because all others are compared with it.
        """
        trial = self._trials.get(number)
        if trial is None or len(self.objectives) > 1 or self.config.pruner == "none":
            return False
        trial.report(value, step)
        return bool(trial.should_prune()) and not (number == 0 and self.has_baseline_trial)

    def finish(self, number: int, values: tuple[float, ...] | None) -> None:
        """Report the objectives of a trial that ended; None if it failed."""
        trial = self._trials.get(number)
        if trial is not None:
            self._study.tell(trial, values, state=_State.FAIL if values is None else _State.COMPLETE)

    def prune(self, number: int) -> None:
        """Report that a trial was pruned."""
        trial = self._trials.get(number)
        if trial is not None:
            self._study.tell(trial, state=_State.PRUNED)

    def importance(self) -> dict[str, float]:
        """Share of the first objective's variance that each key explains (fANOVA, Hutter et al. 2014); empty if unknown."""
        if len(self._study.get_trials(deepcopy=False, states=(_State.COMPLETE,))) < MIN_TRIALS_FOR_IMPORTANCE:
            return {}
        try:
            first = None if len(self.objectives) == 1 else (lambda trial: trial.values[0])
            shares = optuna.importance.get_param_importances(
                self._study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=self.config.seed), target=first
            )
        except (RuntimeError, ValueError):  # no key that all trials have, or equal values everywhere
            return {}
        return {key: float(share) for key, share in shares.items()}


def _make_sampler(config: SearchConfig, number: int, attempt: int) -> optuna.samplers.BaseSampler:
    """A sampler with a seed of its own for each draw."""
    seed = (config.seed * 1_000_003 + number * 1_009 + attempt) % 2**32
    if config.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    # The constant liar takes running trials for poor ones, so that concurrent trials do not try the same.
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _make_pruner(config: SearchConfig) -> optuna.pruners.BasePruner:
    if config.pruner == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=config.grace_period, reduction_factor=REDUCTION_FACTOR)
    if config.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=MEDIAN_STARTUP_TRIALS, n_warmup_steps=config.grace_period)
    return optuna.pruners.NopPruner()
