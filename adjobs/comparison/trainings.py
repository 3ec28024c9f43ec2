"""The trainings of a comparison: child runs in MLflow, one after another, so that none slows another one down."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from adjobs import devices
from adjobs.comparison.candidate import OUTCOME_FILE, CandidateOutcome, finalizer
from adjobs.comparison.observer import ComparisonObserver
from adjobs.comparison.plan import Candidate, ComparisonPlan
from adjobs.comparison.ranking import TrainedMethod
from adjobs.comparison.result import MethodState
from adjobs.errors import DataError, JobError, one_line
from adjobs.evaluation.predictions import ScoreError
from adjobs.jobs.lifecycle import managed_run, open_run, reopen_run, storage_of
from adjobs.jobs.run import Backend, training_backend
from adjobs.storage import open_store
from adjobs.tracking import comparison as records
from adjobs.tracking.comparison import StoredComparison
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import open_reader, open_writer
from adjobs.training.device import release_memory
from adjobs.training.stage_trainer import TrainingError
from adjobs.training.worker import Task
from adjobs.tuning.failures import is_out_of_memory

MAX_REASON = 500  # characters of it in a tag
LASTING_ERRORS = (JobError, DataError, TrainingError, ScoreError)
"""Errors that another try would find again: then the other methods go on without this one."""


class Failure(NamedTuple):
    """A training that failed, and would again."""

    run_id: str
    reason: str


class Trainings:
    """Trains what a comparison needs, or reads back what it has trained before.

    Args:
        plan: of the comparison.
        comparison: its run.
        stored: what an earlier process has done; None for a new comparison.
        backend: where to train.
        resume_command: resumes the comparison.
        observer: called while a training runs.
    """

    def __init__(
        self,
        plan: ComparisonPlan,
        comparison: RunRef,
        stored: StoredComparison | None,
        backend: Backend,
        resume_command: str,
        observer: ComparisonObserver,
    ) -> None:
        self._plan, self._comparison, self._stored = plan, comparison, stored
        self._backend, self._resume_command, self._observer = backend, resume_command, observer
        self._run_ids: list[str] = []

    def train(self, candidate: Candidate, text: str) -> TrainedMethod | Failure:
        """Train a candidate, or go on with it, or read it back.

        Args:
            candidate: what to train.
            text: what the observer is shown.

        Raises:
            AdjobsError: a service is away, or a worker was lost too often.
        """
        child = None if self._stored is None else self._stored.child(candidate.key)
        if child is not None:
            self._run_ids.append(child.run_id)
            if child.tags.get("state") == MethodState.COMPLETE:
                return self._restore(candidate, child.run_id)
            if child.tags.get("state") == MethodState.FAILED:
                return Failure(child.run_id, child.tags.get("reason", ""))
        self._observer.on_training_start(text)
        outcome = self._train(candidate, None if child is None else child.run_id)
        if isinstance(outcome, Failure):
            self._observer.on_training_end(f"{candidate.name} failed: {outcome.reason}")
            return outcome
        metric, seconds = self._plan.metric, outcome.outcome.train_seconds
        self._observer.on_training_end(f"{candidate.name}: {metric} {outcome.outcome.values[metric]:.4f} after {seconds:.0f} s")
        return outcome

    def delete_checkpoints(self, keep: str) -> None:
        """Delete the checkpoints of all trainings but one."""
        store = open_store(storage_of(self._plan.settings, ""))
        for run_id in self._run_ids:
            if run_id != keep:
                store.delete(run_id)

    def _train(self, candidate: Candidate, run_id: str | None) -> TrainedMethod | Failure:
        settings, metric = self._plan.settings, self._plan.metric
        release_memory(devices.automatic_device())
        with training_backend(candidate.job, settings, self._backend, self._observer.on_progress, finalizer(metric)) as run_task:
            task = self._open(candidate, run_id)
            task = replace(task, split=replace(task.split, test=()))  # no test image chooses
            try:
                with managed_run(task.run, self._resume_command):
                    outcome = run_task(task, storage_of(settings, task.run.run_id))
                    open_writer(task.run).set_tags({"state": MethodState.COMPLETE})
            except Exception as error:
                if not isinstance(error, LASTING_ERRORS) and not is_out_of_memory(error):
                    raise
                reason = one_line(error)[:MAX_REASON]
                open_writer(task.run).set_tags({"reason": reason, "state": MethodState.FAILED})
                return Failure(task.run.run_id, reason)
        return self._trained(candidate, task.run.run_id, outcome)

    def _open(self, candidate: Candidate, run_id: str | None) -> Task:
        """The open run of a candidate; one that an earlier process opened may have been left half-recorded."""
        if run_id is not None:
            return reopen_run(candidate.prepared, self._plan.settings, RunRef(self._comparison.tracking_uri, run_id))
        tags = {"launcher": self._backend, "candidate": candidate.key}
        suffix = "full" if candidate.train_anomalies is None else f"{candidate.train_anomalies}-anomalies"
        suffix = suffix if candidate.name == candidate.job.method else f"{candidate.name}-{suffix}"
        parent = records.parent_run(self._comparison.run_id, suffix)
        task = open_run(candidate.prepared, self._plan.settings, tags, parent)
        self._run_ids.append(task.run.run_id)
        return task

    def _restore(self, candidate: Candidate, run_id: str) -> TrainedMethod:
        reader = open_reader(RunRef(self._comparison.tracking_uri, run_id))
        return self._trained(candidate, run_id, CandidateOutcome.from_dict(reader.read_json(OUTCOME_FILE), run_id))

    def _trained(self, candidate: Candidate, run_id: str, outcome: CandidateOutcome) -> TrainedMethod:
        scores = open_reader(RunRef(self._comparison.tracking_uri, run_id)).scores("val")
        return TrainedMethod(candidate.name, candidate.job.method, run_id, outcome, scores)
