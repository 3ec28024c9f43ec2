"""How trials are recorded in MLflow, and what a later driver makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.config.settings import QueueSettings, Settings
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import StorageError
from adjobs.jobs.lifecycle import storage_of
from adjobs.storage import open_store
from adjobs.tracking import search as records
from adjobs.tracking.layout import DatasetInfo
from adjobs.tracking.parents import ChildRun
from adjobs.tracking.runs import create_run
from adjobs.tuning.objective import parse_objectives
from adjobs.tuning.plan import SearchPlan
from adjobs.tuning.state import TrialState
from adjobs.tuning.study import SearchConfig, Study
from adjobs.tuning.trial_manager import Limits, TrialManager
from adjobs.tuning.trial_runs import TrialRuns
from adjobs.types import JobStatus
from tests.helpers.search import JOB, SPACE, VALUES

INFO = DatasetInfo("0" * 64, "folder", {}, SplitAssignment("holdout", 0, ("a",), ("b",), ("c",)))


@pytest.fixture(scope="module")
def uri(tmp_path_factory, empty_mlflow) -> str:
    return empty_mlflow(tmp_path_factory.mktemp("home"))


class Recorded:
    """A search in MLflow with one trial that is running and has a checkpoint."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.settings = Settings(folder, uri, str(folder / "artifacts"), None, folder / "cache", QueueSettings(""))
        self.name = folder.name
        self.plan = SearchPlan(
            JOB, SPACE, parse_objectives((), JOB), SearchConfig("random", "none", 1, 0), 4, None, 0, {}, self.settings
        )
        self.ref = records.open_search(uri, self.name, JOB, SPACE.to_dict(), {}, {})
        tags = {"trial": "0", "params": '{"params.gamma": 1.5}'}
        parent = records.parent_run(self.ref.run_id, 0)
        self.trial = create_run(uri, JOB, INFO, storage_of(self.settings, "{run}"), tags, parent).run_id
        open_store(storage_of(self.settings, self.trial)).write("latest", b"interval-000002")

    @property
    def child(self) -> ChildRun:
        (child,) = records.find_search(self.ref.tracking_uri, self.name).trials
        return child

    @property
    def has_checkpoint(self) -> bool:
        return bool(list(Path(self.settings.artifacts).rglob("latest")))

    def resume(self) -> TrialManager:
        """The manager of a new driver."""
        runs, child = TrialRuns(self.plan, self.ref), self.child
        study = Study(SPACE, JOB, self.plan.objectives, self.plan.config)
        manager = TrialManager(study, Limits(4, 1), runs, exclusive_device=True)
        manager.restore(runs.restore(child), is_closed=child.status in (JobStatus.FINISHED, JobStatus.FAILED))
        return manager


@pytest.fixture
def recorded(uri, tmp_path) -> Recorded:
    return Recorded(uri, tmp_path)


def test_restore_trial_without_a_state_keeps_its_checkpoint(recorded):
    trial = recorded.resume().trials[0]
    assert (trial.state, trial.params, trial.run_id) == (None, {"params.gamma": 1.5}, recorded.trial)
    assert recorded.child.status == JobStatus.RUNNING
    assert recorded.has_checkpoint


@pytest.mark.parametrize("status", [JobStatus.RUNNING, JobStatus.KILLED])
def test_restore_half_closed_trial_of_a_dead_driver_is_closed(status, recorded, monkeypatch):
    manager = recorded.resume()

    def fail(*_: object) -> None:
        raise StorageError("the driver died")

    with monkeypatch.context() as patch:
        patch.setattr("adjobs.storage.local.LocalStore.delete", fail)
        with pytest.raises(StorageError):
            manager.on_error(0, "loss not finite")
    if status == JobStatus.KILLED:  # as Ctrl-C leaves trials whose end the driver did not hear of
        records.SearchWriter(recorded.ref).close_trial(recorded.trial, status)
    assert recorded.has_checkpoint
    child = recorded.child
    assert (child.status, child.tags["state"], child.tags["reason"]) == (status, "failed", "loss not finite")
    resumed = recorded.resume()
    assert not recorded.has_checkpoint
    assert resumed.trials[0].state == TrialState.FAILED
    assert recorded.child.status == JobStatus.FAILED


def test_save_failures_are_restored(recorded):
    manager = recorded.resume()
    manager.next_trial()
    manager.on_process_lost(0, "no memory", out_of_memory=True)
    assert {"failures": "1", "exclusive": "True", "elapsed_seconds": "0.0"}.items() <= recorded.child.tags.items()
    trial = recorded.resume().trials[0]
    assert (trial.failures, trial.exclusive) == (1, True)


def test_close_complete_trial_is_finished_and_the_best_is_logged(recorded):
    manager = recorded.resume()
    manager.next_trial()
    manager.on_complete(0, VALUES)
    assert (recorded.child.status, recorded.child.tags["state"]) == (JobStatus.FINISHED, "complete")
    search = records.find_search(recorded.ref.tracking_uri, recorded.name)
    client = records.connect(recorded.ref.tracking_uri)
    assert client.get_run(search.ref.run_id).data.metrics["best/image_auroc"] == VALUES["image_auroc"]


def test_abort_closes_runs_with_the_seconds_so_far(recorded):
    trial = recorded.resume().trials[0]
    TrialRuns(recorded.plan, recorded.ref).abort([(trial, 12.5)])
    assert (recorded.child.status, recorded.child.tags["elapsed_seconds"]) == (JobStatus.KILLED, "12.5")
    assert recorded.resume().trials[0].seconds == 12.5
