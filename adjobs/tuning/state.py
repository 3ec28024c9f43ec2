"""A trial of a search, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from adjobs.tuning.objective import Objective
from adjobs.tuning.space import TrialParams


class TrialState(StrEnum):
    """State of a trial that has ended, in Optuna's words where it has one."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"

    @property
    def is_failure(self) -> bool:
        """Whether something went wrong."""
        return self in (TrialState.OUT_OF_MEMORY, TrialState.FAILED)

    @property
    def label(self) -> str:
        """For people: ``out of memory``."""
        return self.value.replace("_", " ")


@dataclass
class Trial:
    """One set of values of a search.

    Attributes:
        number: counted from 0 in the order of starting.
        params: values of the keys that vary.
        run_id: of its MLflow run.
        history: the first objective by evaluation interval.
        state: how it ended; None before.
        reason: why it was pruned or failed.
        values: its metrics and costs at the end.
        seconds: that its processes took; without those of a running one.
        failures: how often its process was lost.
        exclusive: it ran out of memory beside others, or may have, and needs the machines to itself.
        requested: a process was requested for it and has not ended.
        started_at: clock time at which that process started; None before.
    """

    number: int
    params: TrialParams
    run_id: str
    history: dict[int, float] = field(default_factory=dict)
    state: TrialState | None = None
    reason: str = ""
    values: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    failures: int = 0
    exclusive: bool = False
    requested: bool = False
    started_at: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has a process, or waits for resources for one."""
        return self.requested and self.state is None

    def objective_values(self, objectives: tuple[Objective, ...]) -> tuple[float, ...] | None:
        """Its values of the objectives; None unless it is complete."""
        values = [self.values.get(objective.metric) for objective in objectives]
        if self.state != TrialState.COMPLETE or any(value is None for value in values):
            return None
        return tuple(value for value in values if value is not None)
