"""A search without Ray and MLflow: trials that the test itself starts and ends."""

from __future__ import annotations

from typing import Any

from adjobs.config.resolve import resolve
from adjobs.tuning.objective import parse_objectives
from adjobs.tuning.space import TrialParams, parse_space
from adjobs.tuning.state import Trial
from adjobs.tuning.study import Pruner, SearchConfig, Study
from adjobs.tuning.trial_manager import Limits, TrialManager

JOB = resolve({"method": "cdo", "data": {"uri": "images"}})
SPACE = parse_space({"method": "cdo", "parameters": {"params.gamma": {"uniform": [0, 4]}}}, "space")
VALUES = {"image_auroc": 0.8, "ms_per_image": 5.0, "peak_memory_mib": 900.0, "train_seconds": 1.0}


class FakeSearch:
    """A trial manager with a clock of its own; it is the store of its trials."""

    def __init__(
        self,
        *,
        pruner: Pruner = "none",
        grace_period: int = 1,
        exclusive_device: bool = True,
        metrics: tuple[str, ...] = (),
        **limits: Any,
    ) -> None:
        self.now = 0.0
        self.opened: list[int] = []
        self.saved: list[int] = []
        self.closed: list[int] = []
        self.best: list[tuple[int, int]] = []
        config = SearchConfig("random", pruner, grace_period, 0)
        study = Study(SPACE, JOB, parse_objectives(metrics, JOB), config)
        all_limits = Limits(**{"trials": 4, "max_concurrent": 2, **limits})
        self.manager = TrialManager(study, all_limits, self, exclusive_device=exclusive_device, clock=lambda: self.now)

    def open(self, number: int, params: TrialParams) -> Trial:
        self.opened.append(number)
        return Trial(number, params, f"run-{number}")

    def save(self, trial: Trial) -> None:
        self.saved.append(trial.number)

    def close(self, trial: Trial) -> None:
        self.closed.append(trial.number)

    def log_best(self, best: Trial, ended: int) -> None:
        self.best.append((best.number, ended))

    def start(self) -> int | None:
        """Start the next trial; returns its number, or None if none may start."""
        trial = self.manager.next_trial()
        if trial is None:
            return None
        self.manager.on_start(trial.number)
        return trial.number

    def run(self, seconds: float = 10.0, **values: float) -> None:
        """Start a trial and let it complete."""
        number = self.start()
        assert number is not None
        self.now += seconds
        self.manager.on_complete(number, {**VALUES, **values})
