"""How a search that goes on takes up the trials that MLflow holds."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from adjobs.config.resolve import resolve
from adjobs.config.settings import Settings
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import DataError, JobError, Stopped, StorageError, TrackingError
from adjobs.jobs.run import managed_run, resume, storage_of, with_absolute_paths
from adjobs.storage import open_store
from adjobs.tracking import search as records
from adjobs.tracking.client import connect
from adjobs.tracking.run import TAG, DatasetInfo, start, stored
from adjobs.training.backends.ray import WorkerResources
from adjobs.tuning import search
from adjobs.tuning.plan import Options, look, resolved
from adjobs.tuning.space import parse_space
from adjobs.tuning.tune_bridge import Room
from tests.tuning.test_trials import JOB, SPACE

FACTS = DatasetInfo("0" * 64, "folder", {}, SplitAssignment("holdout", 0, ("a",), ("b",), ("c",)))


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_mlflow) -> str:
    return empty_mlflow(tmp_path_factory.mktemp("home"))


@pytest.fixture
def opened(uri, tmp_path) -> search._Search:
    """A search with one trial that has a checkpoint and is under way."""
    settings = Settings(tmp_path, uri, str(tmp_path / "artifacts"), None, tmp_path / "cache")
    options, goals = resolved(Options(sampler="random", stopper="asha", grace=1), JOB, SPACE)
    run_id = records.open_search(settings.tracking_uri, tmp_path.name, JOB, {"method": "cdo", "axes": {}}, {}, {})
    tags = {"trial": "0", "point": '{"params.gamma": 1.5}'}
    trial = start(settings.tracking_uri, JOB, FACTS, storage_of(settings, "{run}"), tags, records.under(run_id, 0))
    open_store(storage_of(settings, trial)).write("latest", b"round-000002")
    return search._Search(tmp_path.name, run_id, JOB, SPACE, goals, options, {}, settings)


def queue_of(opened: search._Search) -> tuple[Any, records.ChildRun]:
    """The queue of a driver that starts now, and what MLflow has of the trial."""
    stored = records.find_search(opened.settings.tracking_uri, opened.name)
    return search._queue(opened, stored, Room(WorkerResources(1, 0), 1, 1, 0.0, 0.0, 0.0), None), stored.trials[0]


@pytest.fixture
def on_pictures(opened, folder_root) -> search._Search:
    """The same search on data that are there, with all that its run tells of it."""
    job = with_absolute_paths(resolve({"method": "cdo", "data": {"uri": str(folder_root)}}))
    options, goals = resolved(Options(sampler="random"), job, SPACE)
    data = look(SPACE, job, goals, opened.settings)
    found = search._Search(f"{opened.name}-pictures", "", job, SPACE, goals, options, data, opened.settings)
    told = {**asdict(options), "metrics": [str(goal) for goal in goals]}
    space = {"method": "cdo", "axes": {"params.gamma": {"uniform": [0, 4]}}}
    (one,) = data.values()
    tags = {"data_fingerprint": one.fingerprint, "divisions": search._divisions(data)}
    return replace(found, run_id=records.open_search(found.settings.tracking_uri, found.name, job, space, told, tags))


def open_unrecorded(found: search._Search) -> str:
    """The final run as a driver leaves it that ended right after MLflow had made it."""
    client = connect(found.settings.tracking_uri)
    experiment = client.get_run(found.run_id).info.experiment_id
    tags = {f"{TAG}kind": "final", f"{TAG}launcher": "ray", "mlflow.parentRunId": found.run_id}
    tags |= {f"{TAG}data_fingerprint": next(iter(found.data.values())).fingerprint}
    return str(client.create_run(experiment, tags=tags).info.run_id)


@pytest.fixture
def checkpoint(opened) -> Path:
    (file,) = Path(opened.settings.artifacts).rglob("latest")
    return file


def test_a_trial_without_an_outcome_keeps_its_checkpoint(opened, checkpoint):
    queue, nested = queue_of(opened)
    assert queue.trials[0].outcome is None
    assert (nested.status, checkpoint.exists()) == ("RUNNING", True)


@pytest.mark.parametrize("status", ["RUNNING", "KILLED"])
def test_a_driver_that_ended_while_it_closed_a_trial_leaves_the_rest_to_the_next(status, opened, checkpoint, monkeypatch):
    queue, _ = queue_of(opened)

    def ends(*_: object) -> None:
        raise StorageError("the driver ended")

    with monkeypatch.context() as patch:
        patch.setattr("adjobs.storage.local.LocalStore.delete", ends)
        with pytest.raises(StorageError):
            queue.refused(0, "loss not finite")
    recorder = records.SearchRecorder(opened.settings.tracking_uri, opened.run_id)
    if status == "KILLED":
        recorder.close(queue.trials[0].run_id, status)  # as Ctrl-C leaves trials whose end the driver did not hear of
    assert checkpoint.exists()
    again, nested = queue_of(opened)
    assert (nested.status, nested.tags["outcome"], nested.tags["reason"]) == (status, "failed", "loss not finite")
    assert not checkpoint.exists()
    assert again.trials[0].outcome == "failed"
    assert records.find_search(opened.settings.tracking_uri, opened.name).trials[0].status == "FAILED"


def test_a_final_run_that_was_never_recorded_goes_on(on_pictures, monkeypatch):
    run_id = open_unrecorded(on_pictures)
    seen = []

    def looked_at(asked: str, settings: Settings, **_: object) -> None:
        seen.append(stored(settings.tracking_uri, asked))

    monkeypatch.setattr(search.run, "resume", looked_at)
    before = records.find_search(on_pictures.settings.tracking_uri, on_pictures.name)
    final = search._train_choice(on_pictures, before, {"params.gamma": 1.5}, search.Watch())
    assert final.run_id == run_id
    assert seen[0].job.params["gamma"] == 1.5
    assert seen[0].storage == storage_of(on_pictures.settings, run_id)


@pytest.mark.parametrize(("number", "kind"), [(1, "trial"), (None, "final")])
def test_runs_of_a_search_go_on_with_the_search_alone(number, kind, opened):
    settings = opened.settings
    run_id = start(settings.tracking_uri, JOB, FACTS, "{run}", {"trial": "1"}, records.under(opened.run_id, number))
    with pytest.raises(TrackingError, match=f"is a {kind} run of a search; go on with 'adjobs tune --resume NAME'"):
        resume(run_id, settings, on_progress=lambda tick: None)


def test_a_division_from_a_file_is_found_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "split.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    job = with_absolute_paths(resolve({"method": "cdo", "data": {"uri": "pictures", "split": "split.json"}}))
    assert (job.data.uri, job.data.split) == (str(tmp_path / "pictures"), str(tmp_path / "split.json"))


def test_what_would_divide_the_data_anew_is_refused(on_pictures):
    client = connect(on_pictures.settings.tracking_uri)
    client.set_tag(on_pictures.run_id, f"{TAG}divisions", "of another file")
    with pytest.raises(DataError, match=r"data.split 'None': divides the data otherwise .*; bring it back$"):
        search.resume(on_pictures.name, on_pictures.settings, search.Watch())


def test_more_trials_are_refused_once_the_choice_is_made(on_pictures):
    open_unrecorded(on_pictures)
    with pytest.raises(TrackingError, match="its trials are over, its choice is being trained; go on without --trials"):
        search.resume(on_pictures.name, on_pictures.settings, search.Watch(), trials=9)


def test_what_must_be_as_in_the_run_that_the_job_begins_with_may_not_vary(tmp_path):
    job = resolve({"method": "semirest", "data": {"uri": "pictures"}, "params": {"unsupervised_from": "runs:/1"}})
    axes = {key: {"choice": [1, 2]} for key in ("params.position", "params.gamma")} | {"data.image_size": {"choice": [128]}}
    space = parse_space({"method": "semirest", "axes": axes}, "space")
    message = "params.position, data.image_size must be as in params.unsupervised_from 'runs:/1'; leave them out"
    with pytest.raises(JobError, match=message):
        look(space, job, (), Settings(tmp_path, "sqlite:///unused", str(tmp_path), None, tmp_path / "cache"))


def test_an_error_that_ends_a_search_closes_its_trials(opened, monkeypatch):
    queue, _ = queue_of(opened)

    def ends(*_: object) -> None:
        raise JobError("not defined")

    monkeypatch.setattr(search.tune_bridge, "execute", ends)
    with pytest.raises(JobError):
        search._run_trials(opened, queue, Room(WorkerResources(1, 0), 1, 1, 0.0, 0.0, 0.0), search.Watch())
    assert records.find_search(opened.settings.tracking_uri, opened.name).trials[0].status == "KILLED"


def test_deaths_are_remembered(opened):
    queue, _ = queue_of(opened)
    queue.next()
    queue.died(0, "no room", memory=True)
    again, _ = queue_of(opened)
    assert (again.trials[0].deaths, again.trials[0].alone) == (1, True)


def test_a_search_that_is_stopped_while_its_choice_is_trained_was_stopped_itself(opened):
    uri = opened.settings.tracking_uri
    with (
        pytest.raises(Stopped, match="adjobs tune --resume"),
        managed_run(uri, opened.run_id, f"adjobs tune --resume {opened.name}"),
    ):
        raise Stopped("stopped; go on with: adjobs train --resume 1")
    assert records.find_search(uri, opened.name).status == "KILLED"
