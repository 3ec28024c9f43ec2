"""The runs of a search's trials in MLflow, and the checkpoints that belong to them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import replace

from adjobs.errors import TrackingError
from adjobs.jobs.lifecycle import open_run, reopen_run, storage_of, task_of
from adjobs.storage import open_store
from adjobs.tracking.layout import RunRef
from adjobs.tracking.parents import ChildRun
from adjobs.tracking.search import SearchWriter, parent_run, trial_history
from adjobs.training.resources import WorkerResources
from adjobs.tuning.plan import SearchPlan
from adjobs.tuning.space import TrialParams
from adjobs.tuning.state import Trial, TrialState
from adjobs.tuning.trial import TrialSpec
from adjobs.types import JobStatus


class TrialRuns:
    """Records trials as child runs of a search: the store of its trial manager.

    Args:
        plan: of the search.
        search: its run.
    """

    def __init__(self, plan: SearchPlan, search: RunRef) -> None:
        self._plan, self._search = plan, search
        self._writer = SearchWriter(search)
        self._restored: set[int] = set()

    def open(self, number: int, params: TrialParams) -> Trial:
        """Open a run for a new trial."""
        tags = {"launcher": "search", "trial": str(number), "params": json.dumps(params)}
        task = open_run(self._plan.prepare(params), self._plan.settings, tags, parent_run(self._search.run_id, number))
        return Trial(number, params, task.run.run_id)

    def save(self, trial: Trial) -> None:
        """Record a trial that will be retried."""
        tags = {"failures": str(trial.failures), "exclusive": str(trial.exclusive), "elapsed_seconds": f"{trial.seconds:.1f}"}
        self._writer.set_trial_tags(trial.run_id, tags)

    def close(self, trial: Trial) -> None:
        """Record how a trial ended, remove its checkpoints, and end its run."""
        assert trial.state is not None
        tags = {"reason": trial.reason, "seconds": f"{trial.seconds:.1f}"}
        self._writer.record_outcome(trial.run_id, str(trial.state), tags)
        open_store(storage_of(self._plan.settings, "")).delete(trial.run_id)
        self._writer.close_trial(trial.run_id, JobStatus.FAILED if trial.state.is_failure else JobStatus.FINISHED)

    def log_best(self, best: Trial, ended: int) -> None:
        """Log the first objective of the best trial so far, after this many have ended."""
        metric = self._plan.objectives[0].metric
        self._writer.log_metrics({f"best/{metric}": best.values[metric]}, ended)

    def restore(self, child: ChildRun) -> Trial:
        """A trial as MLflow has it."""
        self._restored.add(int(child.tags["trial"]))
        objective = self._plan.objectives[0]
        state = TrialState(child.tags["state"]) if "state" in child.tags else None
        run = RunRef(self._search.tracking_uri, child.run_id)
        seconds = child.tags.get("seconds") or child.metrics.get("costs/train_seconds") or child.tags.get("elapsed_seconds")
        return Trial(
            number=int(child.tags["trial"]),
            params=json.loads(child.tags["params"]),
            run_id=child.run_id,
            history=trial_history(run, objective.metric) if objective.is_intermediate else {},
            state=state,
            reason=child.tags.get("reason", ""),
            values=child.values if state == TrialState.COMPLETE else {},
            seconds=float(seconds or 0),
            failures=int(child.tags.get("failures", 0)),
            exclusive=child.tags.get("exclusive") == "True",
        )

    def spec_for(self, trial: Trial, resources: WorkerResources) -> TrialSpec:
        """What the process of a trial needs to know."""
        prepared, settings = self._plan.prepare(trial.params), self._plan.settings
        run = RunRef(self._search.tracking_uri, trial.run_id)
        # The run of a restored trial may have been left half-recorded.
        is_restored = trial.number in self._restored
        task = reopen_run(prepared, settings, run) if is_restored else task_of(prepared, settings, run)
        task = replace(task, split=replace(task.split, test=()), reuse_stages=True)
        return TrialSpec(trial.number, task, storage_of(settings, trial.run_id), resources, trial.seconds)

    def abort(self, trials: Iterable[tuple[Trial, float]]) -> None:
        """Close the runs of trials that are interrupted, as far as MLflow still answers.

        Args:
            trials: each with the seconds that it has taken so far.
        """
        for trial, seconds in trials:
            with contextlib.suppress(TrackingError):
                self._writer.set_trial_tags(trial.run_id, {"elapsed_seconds": f"{seconds:.1f}"})
                self._writer.close_trial(trial.run_id, JobStatus.KILLED)
