"""The best trials once more, with other training seeds: how far chance moves the objective, and which setting is best on average.

Another seed ends in other weights, a little so does a rounding that differs in the last bit, and the largest of many values is
large by chance as well. What a search chooses is therefore the best mean over seeds, and the spread is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Protocol

from adjobs.tuning.objective import Objective
from adjobs.tuning.space import TrialParams
from adjobs.tuning.state import Trial

SEED_KEY = "train.seed"  # no space varies it, so that a trial with this key is a repeat
_SEEDS = 2**32
BEST_REPEATED = 2  # trials, beside the job as it is


class HasParams(Protocol):
    """A trial, while it runs or as a result."""

    @property
    def params(self) -> TrialParams:
        """Values of the keys that vary."""
        ...


@dataclass(frozen=True)
class Finalist:
    """A setting that was trained with several seeds.

    Attributes:
        number: of its trial, which has the job's own seed.
        values: the first objective by seed.
    """

    number: int
    values: Mapping[int, float]

    def mean(self, seeds: Iterable[int]) -> float:
        """Over some of its seeds."""
        return fmean(self.values[seed] for seed in seeds)


def is_repeat(trial: HasParams) -> bool:
    """Whether a trial repeats the setting of another one with a seed of its own."""
    return SEED_KEY in trial.params


def repeated(params: TrialParams, seed: int) -> TrialParams:
    """The parameters of a repeat."""
    return {**params, SEED_KEY: seed}


def further_seeds(seed: int, repeats: int) -> list[int]:
    """The seeds after that of the job."""
    return [(seed + offset) % _SEEDS for offset in range(1, repeats + 1)]


def choose_finalists(ranking: Sequence[Trial], *, has_baseline: bool) -> list[Trial]:
    """The best trials, and the job as it is, which says whether the search has gained anything.

    Args:
        ranking: complete trials without repeats, the best first.
        has_baseline: whether trial 0 is the job as it is.
    """
    return [trial for i, trial in enumerate(ranking) if i < BEST_REPEATED or (has_baseline and trial.number == 0)]


def rank_finalists(finalists: Iterable[Finalist], objective: Objective) -> list[Finalist]:
    """The best mean over the seeds that all of them completed first; of equals the order stays."""
    finalists = list(finalists)
    seeds = common_seeds(finalists)
    return sorted(finalists, key=lambda finalist: finalist.mean(seeds), reverse=objective.direction == "max")


def common_seeds(finalists: Sequence[Finalist]) -> list[int]:
    """The seeds that all finalists completed, in order."""
    return sorted(set.intersection(*(set(finalist.values) for finalist in finalists))) if finalists else []


def deviation_over_seeds(finalists: Sequence[Finalist]) -> float | None:
    """Standard deviation of the objective over the seeds of one setting, pooled over settings; None with one seed only."""
    variances = [variance(finalist.values.values()) for finalist in finalists if len(finalist.values) > 1]
    return fmean(variances) ** 0.5 if variances else None
