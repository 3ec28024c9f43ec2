from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adjobs.config.settings import Settings
from adjobs.errors import AdjobsError, ClusterError, DataError, Stopped, StorageError, SupersededError, TrackingError
from adjobs.queue import driver
from adjobs.queue.folder import AttemptEnd, JobFolder, JobSpec
from adjobs.queue.progress import ProgressReporter
from adjobs.queue.states import ExitStatus
from adjobs.retraining.observer import RetrainObserver
from adjobs.retraining.result import RetrainResult, RetrainState
from adjobs.storage import open_store
from adjobs.storage.local import LocalStore
from adjobs.tracking.comparison import StoredComparison
from adjobs.tracking.layout import RunRef
from adjobs.tuning.search import SearchObserver
from adjobs.types import JobStatus
from tests.helpers.schedules import retraining

JOB = {"method": "cdo", "data": {"uri": "images", "image_size": 32}, "track": "none"}


class Result:
    def to_dict(self) -> dict[str, Any]:
        return {"run_id": "4f"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env({"ADJOBS_HOME": str(tmp_path)})


@pytest.fixture
def folder(settings: Settings) -> JobFolder:
    folder = JobFolder.open(settings.artifacts, "ab12")
    folder.write_spec(JobSpec("train", "job", JOB).to_dict())
    folder.start_attempt(1)
    return folder


def drive(settings: Settings, monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> dict[str, Any]:
    """Drive the first attempt of a job, whose training ends with an error."""

    def train(*arguments: object, **options: object) -> Result:
        if error is not None:
            raise error
        return Result()

    monkeypatch.setattr(driver.run, "train", train)
    return driver.drive("ab12", 1, settings, lambda update: None, SearchObserver())


def test_drive_result_is_returned_and_the_end_stored(settings, folder, monkeypatch):
    assert drive(settings, monkeypatch, None) == {"run_id": "4f"}
    assert folder.end(1) == AttemptEnd("done", "succeeded")


@pytest.mark.parametrize(
    ("error", "state", "status"),
    [
        (DataError("no images"), "failed", ExitStatus.FAILED),
        (ClusterError("a worker was lost"), "lost", ExitStatus.LOST),
        (TrackingError("no answer"), "lost", ExitStatus.LOST),
        (OSError(28, "No space left on device"), "lost", ExitStatus.LOST),
        (MemoryError(), "lost", ExitStatus.LOST),
        (SupersededError("attempt 2 has begun"), None, ExitStatus.SUPERSEDED),
    ],
)
def test_drive_error_is_stored_and_its_exit_status_says_whether_it_repeats(settings, folder, monkeypatch, error, state, status):
    with pytest.raises(type(error)):
        drive(settings, monkeypatch, error)
    end = folder.end(1)
    assert (end and end.state, driver.exit_status(error)) == (state, status)
    assert end is None or end.reason == driver.describe(error)


@pytest.mark.parametrize("error", [Stopped("stopped"), KeyboardInterrupt()])
def test_drive_signal_is_an_interruption(settings, folder, monkeypatch, error):
    with pytest.raises(type(error)):
        drive(settings, monkeypatch, error)
    assert folder.end(1) == AttemptEnd("interrupted", "its driver was asked to end, but not by a user of the queue")


def test_drive_storage_down_at_the_end_does_not_hide_the_error(settings, folder, monkeypatch):
    def refuse(folder: JobFolder, attempt: int, end: AttemptEnd) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(JobFolder, "write_end", refuse)
    with pytest.raises(DataError, match="no images"):
        drive(settings, monkeypatch, DataError("no images"))


def test_drive_waits_for_storage_that_is_being_restarted(settings, folder, monkeypatch):
    monkeypatch.setattr(driver, "CHECK_SECONDS", 0.01)
    failures = iter([True, True])
    read = LocalStore.read

    def read_later(store: LocalStore, key: str) -> bytes:
        if next(failures, False):
            raise StorageError("nothing listens there")
        return read(store, key)

    monkeypatch.setattr(LocalStore, "read", read_later)
    assert drive(settings, monkeypatch, None) == {"run_id": "4f"}


def test_patiently_gives_up_at_once_on_damage_and_in_the_end_on_silence(settings, folder, monkeypatch):
    monkeypatch.setattr(driver, "CHECK_SECONDS", 0.01)
    open_store(f"{settings.artifacts}/queue/ab12").write("attempt.json", b"{")
    with pytest.raises(StorageError, match="is damaged"):
        driver.patiently(lambda: folder.is_current(1), StorageError)

    def fail() -> None:
        raise TrackingError("no answer")

    with pytest.raises(TrackingError, match="no answer"):
        driver.patiently(fail, TrackingError, seconds=0.02)


def test_drive_second_driver_of_an_attempt_is_lost(settings, folder, monkeypatch):
    folder.start_driver(1)
    with pytest.raises(AdjobsError, match="was started before") as raised:
        drive(settings, monkeypatch, None)
    assert driver.exit_status(raised.value) is ExitStatus.LOST


def test_reporter_run_of_a_search_is_stored_when_it_is_open(folder):
    opened: list[RunRef] = []

    class Observer(SearchObserver):
        def on_open(self, run: RunRef) -> None:
            opened.append(run)

    run = RunRef("http://mlflow", "4f")
    ProgressReporter(folder, 1, lambda update: None, Observer()).on_open(run)
    assert (folder.run(), opened) == (run, [run])


COMPARISON = {"compare": {"methods": ["cdo"]}, "data": {"uri": "images"}}


@pytest.mark.parametrize("status", [None, JobStatus.FINISHED, JobStatus.KILLED])
def test_drive_comparison_is_started_resumed_or_read_back(settings, folder, monkeypatch, status):
    """By the name that every attempt of the job makes."""
    calls = []

    def find(uri: str, name: str) -> StoredComparison:
        if status is None:
            raise TrackingError("no such comparison")
        return StoredComparison(RunRef(uri, "9a"), status, {}, {}, ())

    def record(name: str) -> Any:
        return lambda *arguments, **options: calls.append((name, arguments, options)) or Result()

    folder.write_spec(JobSpec("compare", "night", COMPARISON).to_dict())
    monkeypatch.setattr(driver, "connect", lambda uri: None)
    monkeypatch.setattr(driver.comparisons, "find_comparison", find)
    monkeypatch.setattr(driver, "run_comparison", record("run"))
    monkeypatch.setattr(driver, "resume_comparison", record("resume"))
    result = driver.drive("ab12", 1, settings, lambda update: None, SearchObserver())
    if status is None:
        assert calls[0][0] == "run"
        assert calls[0][2] == {"backend": "ray", "name": "night-ab12"}
    elif status == JobStatus.KILLED:
        assert calls[0][:2] == ("resume", ("night-ab12", settings, calls[0][1][2]))
        assert folder.run() == RunRef(settings.tracking_uri, "9a")
    else:
        assert (calls, result["run_id"]) == ([], "9a")
    assert folder.end(1) == AttemptEnd("done", "succeeded")


@pytest.mark.parametrize("run_id", ["9a", None])
def test_drive_retraining_does_a_pass_and_its_sentence_is_the_end(settings, folder, monkeypatch, run_id):
    calls = []

    def run_retraining(*arguments: Any, **options: Any) -> RetrainResult:
        calls.append((*arguments, options))
        return RetrainResult("line-3", RetrainState.PROMOTED, "version 4 is in force", run_id=run_id)

    monkeypatch.setitem(sys.modules, "adjobs.retraining.run", SimpleNamespace(run_retraining=run_retraining))
    monkeypatch.setattr(driver, "connect", lambda uri: None)
    folder.write_spec(JobSpec("retrain", "nightly", retraining(Path("/data/line-3"))).to_dict())
    result = driver.drive("ab12", 1, settings, lambda update: None, SearchObserver())
    ((config, _, observer, options),) = calls
    assert (config.model, config.dataset) == ("line-3", "/data/line-3")
    assert isinstance(observer, RetrainObserver)
    assert options == {"backend": "ray", "wait_s": driver.PATIENCE_SECONDS}
    assert (result["sentence"], result["run_id"]) == ("version 4 is in force", run_id)
    assert folder.end(1) == AttemptEnd("done", "version 4 is in force")
    assert folder.run() == (None if run_id is None else RunRef(settings.tracking_uri, "9a"))
