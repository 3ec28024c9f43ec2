"""What a search gives back: frozen, made once, printed by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adjobs.tuning.finalists import Finalist, common_seeds, deviation_over_seeds, is_repeat
from adjobs.tuning.objective import Objective
from adjobs.tuning.space import TrialParams
from adjobs.tuning.state import TrialState


@dataclass(frozen=True)
class TrialResult:
    """How one trial ended.

    Attributes:
        number: counted from 0.
        run_id: of its MLflow run.
        params: values of the keys that vary.
        state: how it ended; None for one that has not.
        reason: why it was pruned or failed, else "".
        intervals: number of the last evaluation interval with a validation; None before the first.
        seconds: that its processes took.
        values: objectives and costs by name.
    """

    number: int
    run_id: str
    params: TrialParams
    state: TrialState | None
    reason: str
    intervals: int | None
    seconds: float
    values: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**vars(self), "values": dict(self.values)}


@dataclass(frozen=True)
class StudyResult:
    """What the trials of a search resulted in.

    Attributes:
        objectives: what was optimised; the first one chose.
        trials: in the order of their numbers.
        best: the complete trial whose setting has the best first objective, on average over the seeds of the finalists.
        finalists: the best trials and the job as it is with all their seeds, the best mean first.
        baseline: the first objective of the job as it is; None if that was not tried or did not complete.
        pareto: numbers of the trials that no other one dominates; empty for one objective.
        importance: share of the first objective's variance that each key explains; empty if unknown.
        rejected_draws: draws whose values did not fit together.
    """

    objectives: tuple[Objective, ...]
    trials: tuple[TrialResult, ...]
    best: TrialResult
    finalists: tuple[Finalist, ...]
    baseline: float | None
    pareto: tuple[int, ...]
    importance: Mapping[str, float]
    rejected_draws: int

    @property
    def searched(self) -> list[TrialResult]:
        """All trials but repeats."""
        return [trial for trial in self.trials if not is_repeat(trial)]

    @property
    def seeds(self) -> list[int]:
        """With which all finalists were trained."""
        return common_seeds(self.finalists)

    @property
    def deviation_over_seeds(self) -> float | None:
        """Standard deviation of the first objective over seeds; None where every setting was trained once."""
        return deviation_over_seeds(self.finalists)

    def seed_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: the finalists with the first objective by seed."""
        seeds = sorted({seed for finalist in self.finalists for seed in finalist.values})
        rows = []
        for finalist in self.finalists:
            values = [f"{finalist.values[seed]:.4f}" if seed in finalist.values else "-" for seed in seeds]
            name = f"{finalist.number}, the job as it is" if self._is_baseline(finalist) else str(finalist.number)
            rows.append([name, *values, f"{finalist.mean(self.seeds):.4f}"])
        return ["trial", *(f"seed {seed}" for seed in seeds), "mean"], rows

    def seed_verdict(self) -> str:
        """In a sentence: what another seed changes, and whether the search has gained more than that."""
        metric, deviation = self.objectives[0].metric, self.deviation_over_seeds
        if deviation is None:
            return "each setting was trained with one seed, so that nothing says how far chance moves the result"
        text = f"another seed changes {metric} by {deviation:.4f} (standard deviation)"
        baseline = next(filter(self._is_baseline, self.finalists), None)
        if baseline is None:
            return text
        if baseline.number == self.best.number:
            return f"{text}; on average no trial is better than the job as it is"
        gain = abs(self.finalists[0].mean(self.seeds) - baseline.mean(self.seeds))
        compared = "no more than that" if gain <= deviation else "more than that"
        return f"{text}; the best is ahead of the job as it is by {gain:.4f}, {compared}"

    def _is_baseline(self, finalist: Finalist) -> bool:
        return self.baseline is not None and finalist.number == 0

    def ranking(self) -> list[TrialResult]:
        """Complete trials without repeats, the best by the first objective first."""
        objective = self.objectives[0]
        complete = [trial for trial in self.searched if trial.state == TrialState.COMPLETE and objective.metric in trial.values]
        return sorted(complete, key=lambda trial: trial.values[objective.metric], reverse=objective.direction == "max")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        best = self.best
        return {
            "metrics": [str(objective) for objective in self.objectives],
            "best": {
                "number": best.number,
                "run_id": best.run_id,
                "params": best.params,
                "value": best.values[self.objectives[0].metric],
            },
            "finalists": [
                {"number": finalist.number, "values": finalist.values, "mean": finalist.mean(self.seeds)}
                for finalist in self.finalists
            ],
            "deviation_over_seeds": self.deviation_over_seeds,
            "baseline": self.baseline,
            "pareto": list(self.pareto),
            "importance": dict(self.importance),
            "rejected_draws": self.rejected_draws,
            "trials": [trial.to_dict() for trial in self.trials],
        }


@dataclass(frozen=True)
class Optimism:
    """How much better the best trial looked on validation than the final training does on test; None where undefined.

    Attributes:
        search: the objective of the best trial, on validation.
        val: of the final training, on validation.
        test: of the final training, on test.
        test_low: end of the 95 % interval of ``test``.
        test_high: end of the 95 % interval of ``test``.
        gap: from ``test`` to ``search``, positive where validation looked better.
    """

    search: float
    val: float | None
    test: float | None
    test_low: float | None
    test_high: float | None
    gap: float | None

    def named(self, metric: str) -> dict[str, float | None]:
        """The numbers by names such as ``test/image_auroc``."""
        return {
            f"search/{metric}": self.search,
            f"val/{metric}": self.val,
            f"test/{metric}": self.test,
            f"test/{metric}_low": self.test_low,
            f"test/{metric}_high": self.test_high,
            f"optimism/{metric}": self.gap,
        }


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        name: of the search.
        run_id: of its MLflow run.
        run_url: that run's page in the MLflow UI; None without a server.
        tracking_uri: where it is recorded.
        method: its name.
        data: the data set's URI.
        study: what its trials resulted in.
        optimism: by objective, without costs.
        final_run: id of the run of the final training.
        model: what :func:`adjobs.load_detector` loads.
        seconds: of the whole search; if it was resumed, since then.
    """

    name: str
    run_id: str
    run_url: str | None
    tracking_uri: str
    method: str
    data: str
    study: StudyResult
    optimism: Mapping[str, Optimism]
    final_run: str
    model: str | None
    seconds: float

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        """All trials, in the order of their numbers."""
        return self.study.trials

    @property
    def best(self) -> TrialResult:
        """The best complete trial by the first objective."""
        return self.study.best

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "search": self.name,
            "run_id": self.run_id,
            "run_url": self.run_url,
            "tracking_uri": self.tracking_uri,
            "method": self.method,
            "data": self.data,
            **self.study.to_dict(),
            "chosen": flatten_optimism(self.optimism),
            "final_run": self.final_run,
            "model": self.model,
            "seconds": self.seconds,
        }


def flatten_optimism(optimism: Mapping[str, Optimism]) -> dict[str, float | None]:
    """All numbers of all objectives by names such as ``optimism/image_auroc``."""
    return {name: value for metric, numbers in optimism.items() for name, value in numbers.named(metric).items()}
