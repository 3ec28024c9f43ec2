"""A search from its job and space to the trained choice: run the trials, choose on validation, train in full, test once."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import NamedTuple

from adjobs.config.job import JobConfig
from adjobs.config.settings import Settings
from adjobs.errors import DataError, JobError, TrackingError
from adjobs.jobs import run
from adjobs.jobs.announce import announce_job
from adjobs.jobs.data import ensure_same_data
from adjobs.jobs.lifecycle import driver_tags, ensure_not_running, managed_run, reopen_run
from adjobs.jobs.prepare import PreparedJob, with_absolute_paths
from adjobs.reporting.description import DESCRIPTION_FIGURE
from adjobs.storage import open_store
from adjobs.tracking import search as records
from adjobs.tracking.layout import DESCRIPTION_DPI, RunRef, run_name
from adjobs.tracking.parents import ChildRun
from adjobs.tracking.runs import open_reader, open_writer
from adjobs.tracking.search import SearchWriter, StoredSearch
from adjobs.training.backends import ray as ray_backend
from adjobs.training.progress import ProgressUpdate
from adjobs.tuning import summary, tune_bridge
from adjobs.tuning.plan import SearchOptions, SearchPlan, make_plan, resumed_options
from adjobs.tuning.resources import TrialResources
from adjobs.tuning.result import Optimism, SearchResult, StudyResult, flatten_optimism
from adjobs.tuning.space import Space, TrialParams, parse_space
from adjobs.tuning.study import Study
from adjobs.tuning.trial_manager import Limits, TrialManager
from adjobs.tuning.trial_runs import TrialRuns
from adjobs.types import JobStatus


class SearchObserver:
    """Called while a search runs; this one does nothing."""

    def on_open(self, run: RunRef) -> None:
        """The run of the search is open."""

    def on_start(self, name: str, manager: TrialManager) -> None:
        """The first trials start."""

    def on_change(self) -> None:
        """A trial started, reported or ended."""

    def on_trials_end(self) -> None:
        """No trial is running any more."""

    def on_progress(self, update: ProgressUpdate) -> None:
        """The final training progressed."""


@dataclass(frozen=True)
class _Search:
    """A search whose run is open."""

    name: str
    ref: RunRef
    plan: SearchPlan

    @property
    def resume_command(self) -> str:
        return f"adjobs tune --resume {self.name}"


class _Outcome(NamedTuple):
    """Trials and final training of a search."""

    study: StudyResult
    optimism: dict[str, Optimism]
    final: ChildRun


def run_search(
    job: JobConfig,
    space: Space,
    options: SearchOptions,
    settings: Settings,
    observer: SearchObserver,
    *,
    name: str | None = None,
    time_budget_s: float | None = None,
) -> SearchResult:
    """Search for hyperparameters, train the best in full and test it once.

    Args:
        job: the resolved job, whose values are the first trial.
        space: what varies.
        options: how to search.
        settings: where MLflow, storage and Ray are.
        observer: called while the search runs.
        name: of the search, to resume it by; None makes one.
        time_budget_s: seconds in which trials and final training are to end; None: no limit.

    Raises:
        AdjobsError: the search cannot be done; most reasons are found before a run is opened.
    """
    started_at = time.perf_counter()
    job = with_absolute_paths(job, keep_relative=settings.working_dir is not None)
    space.check(job)
    plan = make_plan(job, space, options, settings)
    name = name or f"{run_name(job)}-{time.strftime('%Y%m%d-%H%M%S')}"
    with ray_backend.connected(settings):
        resources = tune_bridge.resolve_trial_resources(plan.job.train)
        announce_job(PreparedJob(plan.job, next(iter(plan.data.values())), plan.places))
        tags = {**driver_tags(), "data_fingerprint": plan.fingerprint, "splits_digest": plan.splits_digest}
        ref = records.open_search(settings.tracking_uri, name, plan.job, space.to_dict(), plan.options().to_dict(), tags)
        search = _Search(name, ref, plan)
        outcome = _run(search, None, resources, observer, time_budget_s)
    return _result(search, outcome, time.perf_counter() - started_at)


def resume_search(
    name: str,
    settings: Settings,
    observer: SearchObserver,
    *,
    trials: int | None = None,
    max_concurrent: int | None = None,
    time_budget_s: float | None = None,
) -> SearchResult:
    """Resume a search: ended trials stay, the others continue from their checkpoints.

    Args:
        name: of the search, or the id of its run.
        settings: where MLflow, storage and Ray are.
        observer: called while the search runs.
        trials: in all, in place of what the search was started with.
        max_concurrent: trials at once, likewise.
        time_budget_s: seconds from now; None: no limit.

    Raises:
        TrackingError: no such search, it is finished, or its driver is alive.
        DataError: the data are not those that it was started with.
    """
    started_at = time.perf_counter()
    stored = records.find_search(settings.tracking_uri, name)
    name = stored.tags["search"]
    ensure_not_running(f"search '{name}'", stored.status, stored.tags)
    if stored.status == JobStatus.FINISHED:
        raise TrackingError(f"search '{name}': is FINISHED, its test split was evaluated; start a new one with 'adjobs tune JOB'")
    space = parse_space(stored.space, f"space of search '{name}'")
    plan = make_plan(stored.job, space, resumed_options(stored.options, trials, max_concurrent), settings)
    _check_same_data(name, plan, stored)
    if stored.final is not None and (trials is not None or time_budget_s is not None):
        raise TrackingError(
            f"search '{name}': its trials are over and its choice is being trained; resume without --trials and --time-budget"
        )
    with ray_backend.connected(settings):
        resources = tune_bridge.resolve_trial_resources(plan.job.train)
        open_writer(stored.ref).reopen(driver_tags())
        search = _Search(name, stored.ref, plan)
        outcome = _run(search, stored, resources, observer, time_budget_s)
    return _result(search, outcome, time.perf_counter() - started_at)


def _check_same_data(name: str, plan: SearchPlan, stored: StoredSearch) -> None:
    """Refuse to resume a search on other data or other splits."""
    data, origin = plan.job.data, f"search '{name}' was started with"
    remedy = "restore the data, or start a new search"
    ensure_same_data(data.uri, plan.fingerprint, stored.tags["data_fingerprint"], origin, remedy)
    if plan.splits_digest != stored.tags["splits_digest"]:
        raise DataError(
            f"data.split '{data.split}': splits the data differently than when search '{name}' was started; "
            "restore it, or start a new search"
        )


def _run(
    search: _Search,
    stored: StoredSearch | None,
    resources: TrialResources,
    observer: SearchObserver,
    time_budget_s: float | None,
) -> _Outcome:
    """Run what is left of a search, and close its run whatever happens."""
    with managed_run(search.ref, search.resume_command):
        observer.on_open(search.ref)
        plan, uri = search.plan, search.ref.tracking_uri
        runs = TrialRuns(plan, search.ref)
        manager = _make_manager(plan, runs, stored, resources, time_budget_s)
        if stored is None or stored.final is None:
            _run_trials(search, manager, runs, resources, observer)
        ranking = manager.ranking()
        if not ranking:
            reasons = "; ".join(sorted({trial.reason for trial in manager.trials.values() if trial.reason}))
            problem = f"search '{search.name}': none of {len(manager.trials)} trials completed ({reasons[:500]})"
            raise JobError(f"{problem}; correct the job or the space, and start the search again")
        study = summary.summarise_study(manager)
        best = manager.trials[study.best.number]
        writer = SearchWriter(search.ref)
        drawn = summary.draw_study(manager, study)
        writer.log_result(plan.space.apply(best.params, plan.job), study.to_dict(), drawn)
        writer.set_tags({"best_trial": str(best.number), "best_run": best.run_id})
        summary.log_figures_of_best(uri, ranking)
        final = _train_best(search, stored, best.params, observer)
        optimism = summary.compute_optimism(plan.objectives, best.values, open_reader(RunRef(uri, final.run_id)).estimates())
        numbers = {f"chosen/{name}": value for name, value in flatten_optimism(optimism).items()}
        numbers[f"chosen/search/{plan.objectives[0].metric}_deviation_over_seeds"] = study.deviation_over_seeds
        writer.log_metrics(numbers, len(manager.trials))
        writer.log_figure(drawn["history"], DESCRIPTION_FIGURE, DESCRIPTION_DPI)
        writer.set_description(summary.describe_study(plan.job.method, study, optimism, search.ref.run_id, final.run_id))
        return _Outcome(study, optimism, final)


def _make_manager(
    plan: SearchPlan,
    runs: TrialRuns,
    stored: StoredSearch | None,
    resources: TrialResources,
    time_budget_s: float | None,
) -> TrialManager:
    """A manager that knows the trials of a search that is resumed."""
    study = Study(plan.space, plan.job, plan.objectives, plan.config, plan.prepare)
    capacity = resources.max_concurrent
    max_concurrent = min(plan.max_concurrent or capacity, capacity)
    limits = Limits(plan.trials, max_concurrent, time_budget_s, plan.job.train.max_retries, plan.repeats)
    manager = TrialManager(study, limits, runs, exclusive_device=resources.exclusive_device)
    for child in () if stored is None else stored.trials:
        # The driver may have died after it recorded the state of a trial, before it closed the run.
        manager.restore(runs.restore(child), is_closed=child.status in (JobStatus.FINISHED, JobStatus.FAILED))
    return manager


def _run_trials(
    search: _Search, manager: TrialManager, runs: TrialRuns, resources: TrialResources, observer: SearchObserver
) -> None:
    if manager.is_over:
        return
    artifacts = search.plan.settings.artifacts
    observer.on_start(search.name, manager)
    try:
        open_store(f"{artifacts}/searches").delete(search.ref.run_id)  # of a driver that was killed
        storage = f"{artifacts}/searches/{search.ref.run_id}/{uuid.uuid4().hex[:8]}"
        tune_bridge.run_trials(
            manager, lambda trial: runs.spec_for(trial, resources.worker), resources, storage, observer.on_change
        )
    except BaseException:
        interrupted = [trial for trial in manager.trials.values() if trial.state is None]
        runs.abort([(trial, manager.elapsed_seconds(trial)) for trial in interrupted])
        raise
    finally:
        observer.on_trials_end()


def _train_best(search: _Search, stored: StoredSearch | None, params: TrialParams, observer: SearchObserver) -> ChildRun:
    """Train the best trial's job in full and test it, once; returns its run."""
    plan, settings = search.plan, search.plan.settings
    if stored is None or stored.final is None:
        best = plan.space.apply(params, plan.job)
        parent = records.parent_run(search.ref.run_id, None)
        run.train(best, settings, backend="ray", on_progress=observer.on_progress, parent=parent)
    elif stored.final.status != JobStatus.FINISHED:
        ref = RunRef(search.ref.tracking_uri, stored.final.run_id)
        reopen_run(plan.prepare(params), settings, ref)  # its driver may have died while it was opened
        run.resume(ref, settings, on_progress=observer.on_progress, parent_command=search.resume_command)
    final = records.find_search(search.ref.tracking_uri, search.ref.run_id).final
    assert final is not None
    return final


def _result(search: _Search, outcome: _Outcome, seconds: float) -> SearchResult:
    job = search.plan.job
    return SearchResult(
        name=search.name,
        run_id=search.ref.run_id,
        run_url=open_reader(search.ref).url(),
        tracking_uri=search.ref.tracking_uri,
        method=job.method,
        data=job.data.uri,
        study=outcome.study,
        optimism=outcome.optimism,
        final_run=outcome.final.run_id,
        model=outcome.final.tags.get("model"),
        seconds=seconds,
    )
