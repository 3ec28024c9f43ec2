"""How a trial of a search ended."""

from __future__ import annotations

from enum import StrEnum


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
