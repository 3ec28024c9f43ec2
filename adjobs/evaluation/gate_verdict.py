"""What the gate found: one check after another, the verdict, and what these data could have shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from adjobs.config.job import Section
from adjobs.config.resolve import explain
from adjobs.errors import DataError, join_problems
from adjobs.evaluation.gate_policy import GatePolicy

Status = Literal["passed", "failed", "undecided", "skipped"]
Decision = Literal["promote", "refuse", "undecided"]
Direction = Literal["at least", "at most"]

TABLE_HEADER = ("check", "value", "interval", "bound", "status")


class GateCheck(Section):
    """One check.

    Attributes:
        name: such as ``recall``; of a behaviour ``behaviour/flip``.
        status: failed: the data show that the bound is broken; undecided: they show neither; skipped: the policy leaves it out.
        sentence: the check in words, with what to do where it is undecided.
        value: of the challenger, or its difference to the champion; None without data.
        low: lower limit of the value with error alpha; None where there is none.
        high: upper limit, likewise.
        bound: what the limit must keep to; None for a skipped check.
        direction: of the bound; "at least": the lower limit counts.
        unit: of value, limits and bound: ``""`` for shares and differences of shares, ``ms``, ``MiB``.
    """

    name: str
    status: Status
    sentence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    direction: Direction = "at least"
    unit: Literal["", "ms", "MiB"] = ""

    def row(self) -> list[str]:
        """Cells under `TABLE_HEADER`."""
        interval = "–" if self.low is None or self.high is None else f"{self._number(self.low)} to {self._number(self.high)}"
        bound = "–" if self.bound is None else f"{'≥' if self.direction == 'at least' else '≤'} {self._number(self.bound)}"
        return [self.name, self._number(self.value), interval, bound, self.status]

    def _number(self, value: float | None) -> str:
        if value is None:
            return "–"
        if self.unit:
            return f"{value:.4g} {self.unit}"
        return f"{value:+.3f}" if self.direction == "at least" else f"{value:.3f}"


class GatePower(Section):
    """What the gate can see with so many images, computed before any score is seen.

    Attributes:
        new_anomalies: independent units among the new anomalies.
        probability: for which ``detectable_gain`` is stated.
        detectable_gain: the smallest gain of recall on the new anomalies that is seen with this probability; None: none is.
        target_gain: of the policy; None if no gain is needed.
        needed_anomalies: new anomalies that it takes to see ``target_gain``, about; None above 100,000.
        equal_recall: probability that a challenger of equal recall passes the check of recall; None: not checked.
        sentences: the same in words.
    """

    new_anomalies: int
    probability: float
    detectable_gain: float | None
    target_gain: float | None
    needed_anomalies: int | None
    equal_recall: float | None
    sentences: tuple[str, ...]


class GateVerdict(Section):
    """The gate's verdict on a challenger.

    Attributes:
        decision: promote: each check passed; refuse: at least one failed; undecided: none failed, but the data do not decide all.
        sentence: the decision with its reason.
        checks: all of them, skipped ones included.
        power: what the gate could have seen.
        policy: by which it decided.
    """

    decision: Decision
    sentence: str
    checks: tuple[GateCheck, ...]
    power: GatePower
    policy: GatePolicy

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GateVerdict:
        """Read what `to_dict` gave, parsed from JSON; raises `DataError` if it is something else."""
        try:
            return cls.model_validate(dict(values), strict=False)
        except ValidationError as error:
            raise DataError(f"not a verdict of the gate: {join_problems(explain(error, cls, 'verdict'))}") from error

    def table_rows(self) -> list[list[str]]:
        """Rows under `TABLE_HEADER`, one for each check that was not skipped."""
        return [check.row() for check in self.checks if check.status != "skipped"]
