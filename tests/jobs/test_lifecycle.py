"""Runs are closed whatever happens, several in one process too."""

from __future__ import annotations

import os
from types import SimpleNamespace

import psutil
import pytest

from adjobs.config.resolve import resolve
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import ClusterError, Stopped, StorageError, TrackingError
from adjobs.jobs import lifecycle
from adjobs.jobs.lifecycle import close_open_runs, driver_tags, ensure_not_running, fenced, managed_run
from adjobs.storage.fence import Fence
from adjobs.tracking.folder import FolderRunWriter, create_folder_run, folder_uri
from adjobs.tracking.layout import DatasetInfo, RunRef
from adjobs.tracking.runs import create_run, open_reader
from adjobs.types import JobStatus

JOB = resolve({"method": "cdo", "data": {"uri": "images"}})
INFO = DatasetInfo("0" * 64, "folder", {}, SplitAssignment("holdout", 0, ("a",), ("b",), ("c",)))


@pytest.fixture
def run(tmp_path):
    return create_folder_run(folder_uri(tmp_path), "cdo-line", {})


def refuse(*arguments: object) -> None:
    raise TrackingError("no answer")


def status_and_error(run) -> tuple[JobStatus, str | None]:
    info = open_reader(run).info
    return info.status, info.tags.get("error")


def test_managed_run_that_ends_is_finished(run):
    with managed_run(run, "resume it"):
        assert status_and_error(run) == (JobStatus.RUNNING, None)
    assert status_and_error(run) == (JobStatus.FINISHED, None)


def test_managed_run_shows_its_id_and_where_it_is_at_the_start(run, tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO", "adjobs")
    with managed_run(run, "resume it"):
        assert caplog.messages == [
            f"started as {run.run_id} in {tmp_path / 'runs' / run.run_id}; if it is interrupted, resume it with 'resume it'"
        ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://server/#/runs/1", "started as 1, http://server/#/runs/1; if"),
        (None, "started as 1; if"),
        (refuse, "started as 1; if"),
    ],
)
def test_managed_run_in_mlflow_shows_its_page_if_it_has_one(url, shown, caplog, monkeypatch):
    caplog.set_level("INFO", "adjobs")
    reader = SimpleNamespace(url=url if callable(url) else lambda: url)
    monkeypatch.setattr(lifecycle, "open_reader", lambda ref: reader)
    monkeypatch.setattr(lifecycle, "open_writer", lambda ref: SimpleNamespace(close=lambda status: None))
    with managed_run(RunRef("http://server", "1"), "resume it"):
        assert caplog.messages[0].startswith(shown)


def test_managed_run_that_fails_keeps_its_error(run):
    with pytest.raises(ValueError, match="no images"), managed_run(run, "resume it"):
        raise ValueError("no images")
    assert status_and_error(run) == (JobStatus.FAILED, "no images")


@pytest.mark.parametrize("kind", [ClusterError, StorageError, TrackingError])
def test_managed_run_that_another_system_ends_says_once_how_to_resume(run, tmp_path, kind):
    inner = create_folder_run(folder_uri(tmp_path), "final", {})
    with (
        pytest.raises(kind, match=r"^no answer; then resume with: the search$"),
        managed_run(run, "the search"),
        managed_run(inner, "the final training"),
    ):
        raise kind("no answer")
    assert [status_and_error(ref) for ref in (run, inner)] == [(JobStatus.FAILED, "no answer")] * 2


def test_managed_run_of_a_queued_job_leaves_it_to_the_queue_to_resume(run, tmp_path):
    with (
        pytest.raises(ClusterError, match=r"^no answer$"),
        fenced(Fence(str(tmp_path / "queue"), 1)),
        managed_run(run, "resume it"),
    ):
        raise ClusterError("no answer")


def test_managed_run_that_is_interrupted_says_how_to_resume(run):
    with pytest.raises(Stopped, match="stopped; resume with: resume it"), managed_run(run, "resume it"):
        raise KeyboardInterrupt
    assert status_and_error(run) == (JobStatus.KILLED, "stopped; resume with: resume it")


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [(ValueError("no images"), ValueError, "no images"), (KeyboardInterrupt(), Stopped, "stopped; resume with: resume it")],
)
def test_managed_run_that_cannot_be_closed_raises_what_ended_it(run, monkeypatch, caplog, error, expected, message):
    monkeypatch.setattr("adjobs.tracking.runs.open_writer", refuse)
    with pytest.raises(expected, match=message), managed_run(run, "resume it"):
        raise error
    assert f"run {run.run_id} could not be marked as" in caplog.text
    assert "(no answer)" in caplog.text


def test_create_run_that_fails_keeps_its_error(tmp_path, monkeypatch):
    monkeypatch.setattr(FolderRunWriter, "record_job", refuse)
    with pytest.raises(TrackingError, match="no answer"):
        create_run(folder_uri(tmp_path), JOB, INFO, "checkpoints/{run}", {})
    (folder,) = (tmp_path / "runs").iterdir()
    assert status_and_error(RunRef(folder_uri(tmp_path), folder.name)) == (JobStatus.FAILED, "no answer")


def test_close_open_runs_marks_every_run_of_the_process(run, tmp_path):
    other = create_folder_run(folder_uri(tmp_path), "cdo-line", {})
    with managed_run(run, "resume one"), managed_run(other, "resume other"):
        close_open_runs()
        assert status_and_error(run) == (JobStatus.KILLED, "stopped; resume with: resume one")
        assert status_and_error(other) == (JobStatus.KILLED, "stopped; resume with: resume other")
    close_open_runs()  # none is left
    assert status_and_error(run)[0] == JobStatus.FINISHED


def test_ensure_not_running_refuses_a_living_driver_of_this_machine():
    tags = driver_tags()
    with pytest.raises(TrackingError, match=r"run 1: its driver .* is still running; stop it first"):
        ensure_not_running("run 1", JobStatus.RUNNING, tags)
    ensure_not_running("run 1", JobStatus.KILLED, tags)
    ensure_not_running("run 1", JobStatus.RUNNING, {"driver": f"elsewhere:{os.getpid()}:0"})
    host, pid, created = tags["driver"].rsplit(":", 2)
    ensure_not_running("run 1", JobStatus.RUNNING, {"driver": f"{host}:{pid}:{int(created) - 100}"})  # the id was reused
    assert psutil.Process(int(pid)).is_running()
