"""Runs without MLflow."""

from __future__ import annotations

import json

import pytest
from matplotlib.figure import Figure

from adjobs.errors import TrackingError
from adjobs.tracking.folder import FolderRunReader, FolderRunWriter, create_folder_run, folder_uri, run_folder
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import find_run, open_reader, open_writer
from adjobs.types import JobStatus


@pytest.fixture
def run(tmp_path) -> RunRef:
    return create_folder_run(folder_uri(tmp_path), "cdo-line", {"method": "cdo"})


def test_folder_run_what_is_written_is_read_back(run):
    writer = open_writer(run)
    assert isinstance(writer, FolderRunWriter)
    writer.log_metrics({"train/loss": 2.0, "val/image_auroc": None}, 1)
    writer.log_metrics({"train/loss": 1.0, "threshold": 0.5}, 2)
    writer.log_metrics({"train/loss": 1.5}, 1)  # an interval that was repeated after a resume
    writer.log_json({"a": 1}, "metrics.json")
    writer.log_figure(Figure(), "figures/test_roc.png")
    writer.set_tags({"model": "x"})
    writer.close(JobStatus.FAILED, ValueError("no images"))
    reader = open_reader(run)
    assert isinstance(reader, FolderRunReader)
    assert (reader.info.name, reader.info.status) == ("cdo-line", JobStatus.FAILED)
    assert reader.info.tags == {"method": "cdo", "model": "x", "error": "no images"}
    assert reader.info.metrics == {"train/loss": 1.0, "threshold": 0.5}
    assert reader.metric_history() == {"train/loss": [(1, 2.0), (1, 1.5), (2, 1.0)]}
    assert reader.read_json("metrics.json") == {"a": 1}
    assert list(reader.figures()) == ["test_roc"]
    assert reader.url() is None
    writer.reopen({"driver": "d"})
    info = open_reader(run).info
    assert (info.status, info.ended_at, info.tags["error"]) == (JobStatus.RUNNING, None, "")


def test_folder_run_history_that_was_cut_off_loses_its_last_line_only(run):
    open_writer(run).log_metrics({"train/loss": 2.0}, 1)
    with (run_folder(run) / "history.jsonl").open("a") as file:
        file.write('{"step": 2, "metr')
    assert open_reader(run).metric_history() == {"train/loss": [(1, 2.0)]}


def test_folder_run_model_replaces_the_one_before_as_a_whole(run, tmp_path):
    writer = open_writer(run)
    for content in ("old", "new"):
        detector = tmp_path / content
        detector.mkdir()
        (detector / "detector.json").write_text(json.dumps(content))
        model = writer.log_model(detector, None)
    assert json.loads((run_folder(run) / "detector" / "detector.json").read_text()) == "new"
    assert model == str(run_folder(run) / "detector")
    assert sorted(path.name for path in run_folder(run).iterdir()) == ["detector", "run.json"]


def test_find_run_prefers_the_users_folder(run, tmp_path):
    assert find_run("http://mlflow", tmp_path, run.run_id) == run
    assert find_run("http://mlflow", tmp_path, f"runs:/{run.run_id}") == run
    assert find_run("http://mlflow", tmp_path, "0" * 32) == RunRef("http://mlflow", "0" * 32)
    assert find_run("http://mlflow", tmp_path, "") == RunRef("http://mlflow", "")


def test_open_reader_missing_folder_is_one_line(tmp_path):
    with pytest.raises(TrackingError, match=r"run gone: not found in .*; give the run id that 'adjobs train' printed"):
        open_reader(RunRef(folder_uri(tmp_path), "gone"))
