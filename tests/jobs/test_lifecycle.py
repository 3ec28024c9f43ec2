"""Runs are closed whatever happens, several in one process too."""

from __future__ import annotations

import os

import psutil
import pytest

from adjobs.config.resolve import resolve
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import ClusterError, Stopped, StorageError, TrackingError
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
