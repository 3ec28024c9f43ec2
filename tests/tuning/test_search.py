"""How a search is resumed, and what is refused then."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from adjobs.config.settings import QueueSettings, Settings
from adjobs.errors import DataError, JobError, Stopped, TrackingError
from adjobs.jobs.lifecycle import managed_run, storage_of
from adjobs.jobs.prepare import with_absolute_paths
from adjobs.jobs.run import resume
from adjobs.tracking import search as records
from adjobs.tracking.client import connect
from adjobs.tracking.layout import TAG, RunRef, StoredRun
from adjobs.tracking.runs import open_reader, open_writer
from adjobs.training.resources import WorkerResources
from adjobs.tuning import search
from adjobs.tuning.plan import SearchOptions, make_plan
from adjobs.tuning.resources import TrialResources
from adjobs.tuning.trial_runs import TrialRuns
from adjobs.types import JobStatus
from tests.helpers.jobs import resolved_job
from tests.helpers.search import SPACE

RESOURCES = TrialResources(WorkerResources(1, 0), 1, 1, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_mlflow) -> str:
    return empty_mlflow(tmp_path_factory.mktemp("home"))


@pytest.fixture
def opened(uri, tmp_path, folder_root) -> search._Search:
    """A search whose run is open, without trials."""
    settings = Settings(tmp_path, uri, str(tmp_path / "artifacts"), None, tmp_path / "cache", QueueSettings(""))
    job = with_absolute_paths(resolved_job(folder_root))
    plan = make_plan(job, SPACE, SearchOptions(sampler="random"), settings)
    tags = {"data_fingerprint": plan.fingerprint, "splits_digest": plan.splits_digest}
    ref = records.open_search(uri, tmp_path.name, job, SPACE.to_dict(), plan.options().to_dict(), tags)
    return search._Search(tmp_path.name, ref, plan)


def status_of(opened: search._Search) -> JobStatus:
    return records.find_search(opened.ref.tracking_uri, opened.name).status


def open_unrecorded_final_run(opened: search._Search) -> RunRef:
    """The final run as a driver leaves it that died right after MLflow had created it."""
    client = connect(opened.ref.tracking_uri)
    experiment = client.get_run(opened.ref.run_id).info.experiment_id
    tags = {"kind": "final", "launcher": "ray", "data_fingerprint": opened.plan.fingerprint}
    all_tags = {f"{TAG}{key}": value for key, value in tags.items()} | {"mlflow.parentRunId": opened.ref.run_id}
    return RunRef(opened.ref.tracking_uri, str(client.create_run(experiment, tags=all_tags).info.run_id))


def test_train_best_unrecorded_final_run_is_resumed(opened, monkeypatch):
    ref = open_unrecorded_final_run(opened)
    resumed: list[StoredRun] = []

    def record_run(run: RunRef, settings: Settings, **_: object) -> None:
        resumed.append(open_reader(run).stored_run())

    monkeypatch.setattr(search.run, "resume", record_run)
    stored = records.find_search(ref.tracking_uri, opened.name)
    final = search._train_best(opened, stored, {"params.gamma": 1.5}, search.SearchObserver())
    assert final.run_id == ref.run_id
    assert resumed[0].job.params["gamma"] == 1.5
    assert resumed[0].storage == storage_of(opened.plan.settings, ref.run_id)


@pytest.mark.parametrize(("number", "kind"), [(0, "trial"), (None, "final")])
def test_resume_job_of_a_search_is_refused(number, kind, opened):
    if number is None:
        ref = search.reopen_run(opened.plan.prepare({}), opened.plan.settings, open_unrecorded_final_run(opened)).run
    else:
        trial = TrialRuns(opened.plan, opened.ref).open(number, {"params.gamma": 1.5})
        ref = RunRef(opened.ref.tracking_uri, trial.run_id)
    with pytest.raises(TrackingError, match=f"is a {kind} run of a search; resume the search with 'adjobs tune --resume NAME'"):
        resume(ref, opened.plan.settings, on_progress=lambda update: None)


def test_resume_search_other_splits_are_refused(opened):
    open_writer(opened.ref).set_tags({"splits_digest": "of another file"})
    with pytest.raises(DataError, match=r"data.split 'None': splits the data differently .*; restore it"):
        search.resume_search(opened.name, opened.plan.settings, search.SearchObserver())


def test_resume_search_other_data_is_refused(opened):
    open_writer(opened.ref).set_tags({"data_fingerprint": "0" * 64})
    with pytest.raises(DataError, match="was started with 0000000000000000; restore the data"):
        search.resume_search(opened.name, opened.plan.settings, search.SearchObserver())


def test_resume_search_finished_is_refused(opened):
    open_writer(opened.ref).close(JobStatus.FINISHED)
    with pytest.raises(TrackingError, match="is FINISHED, its test split was evaluated; start a new one"):
        search.resume_search(opened.name, opened.plan.settings, search.SearchObserver())


@pytest.mark.parametrize("limits", [{"trials": 9}, {"time_budget_s": 60.0}])
def test_resume_search_more_trials_once_the_best_is_being_trained_are_refused(limits, opened):
    open_unrecorded_final_run(opened)
    message = "its trials are over and its choice is being trained; resume without --trials and --time-budget"
    with pytest.raises(TrackingError, match=message):
        search.resume_search(opened.name, opened.plan.settings, search.SearchObserver(), **limits)


def test_run_trials_error_closes_their_runs(opened, monkeypatch):
    runs = TrialRuns(opened.plan, opened.ref)
    manager = search._make_manager(opened.plan, runs, None, RESOURCES, None)
    manager.next_trial()

    def fail(*_: object) -> None:
        raise JobError("not defined")

    monkeypatch.setattr(search.tune_bridge, "run_trials", fail)
    with pytest.raises(JobError):
        search._run_trials(opened, manager, runs, RESOURCES, search.SearchObserver())
    (trial,) = records.find_search(opened.ref.tracking_uri, opened.name).trials
    assert trial.status == JobStatus.KILLED


def test_spec_for_has_no_test_images(opened):
    runs = TrialRuns(opened.plan, opened.ref)
    trial = runs.open(0, {"params.gamma": 1.5})
    spec = runs.spec_for(trial, RESOURCES.worker)
    split = opened.plan.prepare(trial.params).data.split
    assert (spec.task.split.val, spec.task.split.test) == (split.val, ())
    assert split.test
    assert spec.task.run == RunRef(opened.ref.tracking_uri, trial.run_id)
    assert (spec.number, spec.storage) == (0, storage_of(opened.plan.settings, trial.run_id))
    assert spec.task.reuse_stages


def test_spec_for_restored_trial_reopens_its_run(opened):
    trial = TrialRuns(opened.plan, opened.ref).open(0, {"params.gamma": 1.5})
    TrialRuns(opened.plan, opened.ref).abort([(trial, 12.5)])
    (child,) = records.find_search(opened.ref.tracking_uri, opened.name).trials
    assert child.status == JobStatus.KILLED
    runs = TrialRuns(opened.plan, opened.ref)
    assert runs.spec_for(runs.restore(child), RESOURCES.worker).elapsed_seconds == 12.5
    (child,) = records.find_search(opened.ref.tracking_uri, opened.name).trials
    assert child.status == JobStatus.RUNNING


def test_make_manager_limits_are_those_of_plan_and_cluster(opened):
    runs = TrialRuns(opened.plan, opened.ref)
    assert search._make_manager(opened.plan, runs, None, RESOURCES, 60.0).limits == search.Limits(30, 1, 60.0, 3, 2)
    plan = replace(opened.plan, trials=5, max_concurrent=2)
    resources = RESOURCES._replace(max_concurrent=8)
    assert search._make_manager(plan, runs, None, resources, None).limits == search.Limits(5, 2, None, 3, 2)


def test_run_without_a_complete_trial_fails_with_the_reasons(opened, monkeypatch):
    def fail_all(manager: search.TrialManager, *_: object) -> None:
        manager.next_trial()
        manager.on_error(0, "loss not finite")

    monkeypatch.setattr(search.tune_bridge, "run_trials", fail_all)
    with pytest.raises(JobError, match=r"none of 1 trials completed \(loss not finite\)"):
        search._run(opened, None, RESOURCES, search.SearchObserver(), None)
    assert status_of(opened) == JobStatus.FAILED


def test_resume_search_killed_before_its_first_trial_starts_it(opened, monkeypatch):
    numbers: list[int] = []

    def fail_all(manager: search.TrialManager, *_: object) -> None:
        numbers.append(manager.next_trial().number)
        manager.on_error(0, "loss not finite")

    assert status_of(opened) == JobStatus.RUNNING  # no process was left to close it
    monkeypatch.setattr(search.ray_backend, "connected", lambda settings: nullcontext())
    monkeypatch.setattr(search.tune_bridge, "resolve_trial_resources", lambda train: RESOURCES)
    monkeypatch.setattr(search.tune_bridge, "run_trials", fail_all)
    with pytest.raises(JobError, match="none of 1 trials completed"):
        search.resume_search(opened.name, opened.plan.settings, search.SearchObserver())
    assert numbers == [0]
    again = records.open_search(opened.ref.tracking_uri, opened.name, opened.plan.job, SPACE.to_dict(), {}, {})
    assert records.find_search(opened.ref.tracking_uri, opened.name).ref == again


def test_search_interrupted_in_the_final_training_is_killed_and_says_how_to_resume(opened):
    with (
        pytest.raises(Stopped, match=f"resume with: adjobs tune --resume {opened.name}"),
        managed_run(opened.ref, opened.resume_command),
    ):
        raise Stopped("stopped; resume with: adjobs train --resume 1")
    assert status_of(opened) == JobStatus.KILLED
