from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from adjobs.errors import StorageError
from adjobs.queue.folder import JobFolder, JobProgress
from adjobs.queue.progress import ProgressReporter
from adjobs.storage import open_store
from adjobs.training.progress import ProgressUpdate, peak_resident_mib
from adjobs.tuning.search import SearchObserver


class Reports:
    """A reporter with a clock that a test sets, and what it has passed on."""

    def __init__(self, root: Path) -> None:
        self.folder, self.now, self.passed = JobFolder(open_store(root)), 0.0, []
        self.reporter = ProgressReporter(self.folder, 2, self.passed.append, SearchObserver(), lambda: self.now)

    def step(self, now: float, done: int, **values: Any) -> JobProgress | None:
        self.now = now
        update = ProgressUpdate(**{"stage": "distil", "total": 3000, "loss": 2.5, "images_per_s": 30.0, **values}, done=done)
        self.reporter.on_training(update)
        return self.folder.progress(2)


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path)


def test_on_training_keeps_the_most_memory_and_on_end_stores_the_last_word(reports):
    reports.step(1, 1, memory_mib=500.0, gpu_memory_mib=80.0)
    assert reports.step(2, 2, memory_mib=900.0).done == 1
    reports.step(3, 3, memory_mib=700.0)
    reports.reporter.on_end()
    progress = reports.folder.progress(2)
    assert progress.done == 3
    assert progress.memory_mib == pytest.approx(900 + peak_resident_mib(), rel=0.1)
    assert progress.gpu_memory_mib == 80


def test_on_training_without_measured_memory_says_none(reports):
    progress = reports.step(1, 1)
    assert (progress.memory_mib, progress.gpu_memory_mib) == (None, None)


def test_on_training_stores_every_five_seconds_and_passes_all_on(reports):
    stored = [reports.step(second, 10 * second) for second in range(1, 12)]
    assert [progress.done for progress in stored if progress] == [10] * 5 + [60] * 5 + [110]
    assert len(reports.passed) == 11


def test_on_training_time_left_is_that_of_the_steps_taken_in_this_stage(reports):
    assert reports.step(0, 1000).seconds_left is None
    assert reports.step(10, 1500).seconds_left == pytest.approx(30)
    assert reports.step(20, 20, stage="refine").seconds_left is None
    assert reports.step(30, 10, stage="refine").seconds_left is None  # back to a checkpoint


def test_on_training_loss_that_is_not_finite_is_left_out(reports):
    assert reports.step(0, 1, loss=float("nan"), images_per_s=float("inf")) == JobProgress("distil", 1, 3000)


def test_on_change_counts_trials_and_what_is_left_of_the_budget(reports):
    manager = SimpleNamespace(ended=[1, 2], total=30, seconds_left=120.0)
    reports.reporter.on_start("search", cast(Any, manager))
    assert reports.folder.progress(2) == JobProgress("trials", 2, 30, seconds_left=120.0)


def test_progress_of_another_attempt_is_none(reports):
    reports.step(0, 1)
    assert reports.folder.progress(3) is None


def test_on_training_storage_that_fails_does_not_end_the_training(reports, monkeypatch, caplog):
    def fail(*arguments: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(reports.folder, "write_progress", fail)
    reports.step(0, 1)
    assert "the queue does not see the progress of this job (disk full)" in caplog.text


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"attempt": 2, "x": 1}', b"\xff"])
def test_objects_that_are_damaged_are_one_line(tmp_path, content):
    folder = JobFolder(open_store(tmp_path))
    for name in ("run.json", "spec.json", "end-1.json", "progress.json"):
        (tmp_path / name).write_bytes(content)
    for read in (folder.run, folder.spec, lambda: folder.end(1)):
        with pytest.raises(StorageError, match="submit the job again"):
            read()
    if content != b"{}":
        with pytest.raises(StorageError, match="submit the job again"):
            folder.progress(2)


def test_on_progress_of_a_comparison_says_which_method_is_trained(reports):
    reports.reporter.on_training_start("method 2 of 5 (cdo)")
    reports.now = 6.0
    reports.reporter.on_progress(ProgressUpdate("distil", 120, 300, 2.5, 30.0))
    progress = reports.folder.progress(2)
    assert (progress.stage, progress.done, progress.total) == ("method 2 of 5 (cdo), distil", 120, 300)
