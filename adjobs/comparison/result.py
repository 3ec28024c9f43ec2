"""What a comparison gives back: frozen, made once, printed by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from adjobs.comparison.candidate import CandidateOutcome
from adjobs.evaluation.compare import Difference
from adjobs.metrics.intervals import Estimate


class MethodState(StrEnum):
    """How it went with a method."""

    COMPLETE = "complete"
    FAILED = "failed"
    EXCLUDED = "excluded"


@dataclass(frozen=True)
class MethodResult:
    """A method in the table.

    Attributes:
        name: in the table.
        method: its method.
        state: whether it could be compared.
        reason: why not, else "".
        run_id: of its MLflow run; None for an excluded one.
        outcome: metrics of validation, and costs; None unless it is complete.
        difference: the metric that ranks, minus that of the best; None for the best itself and unless it is complete.
        is_tied: whether these data cannot distinguish it from the best, which it may be itself.
    """

    name: str
    method: str
    state: MethodState
    reason: str = ""
    run_id: str | None = None
    outcome: CandidateOutcome | None = None
    difference: Difference | None = None
    is_tied: bool = False

    @property
    def complete(self) -> CandidateOutcome:
        """The outcome of a method that is complete."""
        if self.outcome is None:
            raise ValueError(f"{self.name} is {self.state}")
        return self.outcome

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        outcome = {} if self.outcome is None else self.outcome.to_dict()
        outcome.pop("resampled", None)
        difference = None if self.difference is None else self.difference._asdict()
        return {**vars(self), "outcome": outcome or None, "difference": difference}


@dataclass(frozen=True)
class CurvePoint:
    """A method with fewer labelled anomalies.

    Attributes:
        name: of the method in the table.
        train_anomalies: labelled anomalies that it learned from.
        value: the metric that ranks; None where it was not trained.
        gain: what the method gains from all labelled anomalies over this point; None where it was not trained.
        run_id: of its MLflow run; None where it was not trained.
        reason: why it was not trained, else "".
    """

    name: str
    train_anomalies: int
    value: float | None = None
    gain: Difference | None = None
    run_id: str | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**vars(self), "gain": None if self.gain is None else self.gain._asdict()}


@dataclass(frozen=True)
class Ranking:
    """What validation says; nothing of it has seen a test image.

    Attributes:
        metric: that ranks.
        methods: complete ones, the best first, then the others.
        curves: of the methods that learn from labelled anomalies, the most anomalies first.
        train_anomalies: labelled anomalies of the training split.
        val_counts: images of the validation split by label.
        seconds_each: time limit of every training.
    """

    metric: str
    methods: tuple[MethodResult, ...]
    curves: tuple[CurvePoint, ...]
    train_anomalies: int
    val_counts: Mapping[str, int]
    seconds_each: float

    @property
    def complete(self) -> list[MethodResult]:
        """The methods that were compared, the best first."""
        return [method for method in self.methods if method.state == MethodState.COMPLETE]

    @property
    def tied(self) -> list[MethodResult]:
        """The best, and those that these data cannot distinguish from it."""
        return [method for method in self.complete if method.is_tied]

    @property
    def chosen(self) -> MethodResult:
        """Of the best and those that cannot be distinguished from it, the fastest to predict with."""
        return min(self.tied, key=lambda method: (method.complete.ms_per_image, method.complete.train_seconds))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **vars(self),
            "methods": [method.to_dict() for method in self.methods],
            "curves": [point.to_dict() for point in self.curves],
            "val_counts": dict(self.val_counts),
        }


@dataclass(frozen=True)
class ComparisonResult:
    """A finished comparison.

    Attributes:
        name: of the comparison.
        run_id: of its MLflow run.
        run_url: the run's page in the MLflow UI; None without a server.
        tracking_uri: of MLflow.
        data: the data set's URI.
        ranking: what validation says.
        recommendation: the same in words, sentence by sentence.
        chosen: name of the method that was tested.
        chosen_run: its MLflow run.
        model: what :func:`adjobs.load_detector` loads; None only if it cannot be read back.
        test: metrics of the chosen method on the test split, by name.
        seconds: of this call.
    """

    name: str
    run_id: str
    run_url: str | None
    tracking_uri: str
    data: str
    ranking: Ranking
    recommendation: tuple[str, ...]
    chosen: str
    chosen_run: str
    model: str | None
    test: Mapping[str, Estimate]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **vars(self),
            "ranking": self.ranking.to_dict(),
            "recommendation": list(self.recommendation),
            "test": {name: estimate._asdict() for name, estimate in self.test.items()},
        }
