"""How a search that goes on takes up the trials that MLflow holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adjobs.artifacts import open_store
from adjobs.data.splits import Split
from adjobs.errors import StorageError
from adjobs.settings import Settings
from adjobs.tracking import search as records
from adjobs.tracking.run import DataFacts, start
from adjobs.training.cluster import Share
from adjobs.training.launch import storage_of
from adjobs.tuning import search
from adjobs.tuning.executor import Room
from adjobs.tuning.plan import Options, resolved
from tests.tuning.test_trials import JOB, SPACE

FACTS = DataFacts("0" * 64, "folder", {}, Split("holdout", 0, ("a",), ("b",), ("c",)))


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_mlflow) -> str:
    return empty_mlflow(tmp_path_factory.mktemp("home"))


@pytest.fixture
def opened(uri, tmp_path) -> search._Search:
    """A search with one trial that has a checkpoint and is under way."""
    settings = Settings(tmp_path, uri, str(tmp_path / "artifacts"), None)
    options, goals = resolved(Options(sampler="random", stopper="asha", grace=1), JOB, SPACE)
    run_id = records.open_search(settings.tracking_uri, tmp_path.name, JOB, {"method": "cdo", "axes": {}}, {}, {})
    tags = {"trial": "0", "point": '{"params.gamma": 1.5}'}
    trial = start(settings.tracking_uri, JOB, FACTS, storage_of(settings, "{run}"), tags, records.under(run_id, 0))
    open_store(storage_of(settings, trial)).write("latest", b"round-000002")
    return search._Search(tmp_path.name, run_id, JOB, SPACE, goals, options, {}, settings)


def queue_of(opened: search._Search) -> tuple[Any, records.Nested]:
    """The queue of a driver that starts now, and what MLflow has of the trial."""
    stored = records.find_search(opened.settings.tracking_uri, opened.name)
    return search._queue(opened, stored, Room(Share(1, 0), 1, 1, 0.0, 0.0, 0.0), None), stored.trials[0]


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
        patch.setattr("adjobs.artifacts.local.LocalStore.delete", ends)
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
