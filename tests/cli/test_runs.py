"""``adjobs runs``: the list, one run, and runs by short ids in other verbs."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from adjobs.config.resolve import resolve
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import TrackingError
from adjobs.tracking.folder import create_folder_run, folder_uri, run_folder
from adjobs.tracking.layout import METRICS_FILE, THRESHOLDS_FILE, DatasetInfo, RunRef
from adjobs.tracking.runs import open_writer
from adjobs.types import JobStatus
from tests.helpers.detectors import image_threshold

JOB = {"method": "cdo", "data": {"uri": "/line/tiles", "image_size": 64}, "params": {"epochs": 3}, "track": "none"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr("os.environ", os.environ.copy())  # commands add variables to it
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "ADJOBS_ARTIFACTS", "RAY_ADDRESS", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def finished(home) -> RunRef:
    """A run with a job, metrics, a threshold and a model."""
    run = create_folder_run(folder_uri(home), "cdo-tiles-1130", {"method": "cdo"})
    writer = open_writer(run)
    writer.record_job(resolve(JOB), DatasetInfo("9f", "folder", {"train/normal": 12}, SplitAssignment("holdout", 0, (), (), ())))
    writer.log_metrics({"test/image_auroc": 0.875, "val/image_auroc": 0.5}, 3)
    estimates = {"image_auroc": {"value": 0.875, "low": 0.75, "high": 0.9375, "reason": ""}}
    writer.log_json({"splits": {"test": {"overall": estimates}}}, METRICS_FILE)
    writer.log_json({"image": image_threshold(0.25).to_dict(), "pixel": None, "history": []}, THRESHOLDS_FILE)
    writer.set_tags({"model": str(run_folder(run) / "detector")})
    writer.close(JobStatus.FINISHED)
    return run


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, ["runs", *words])


def test_list_empty_home_says_how_to_train(home):
    done = invoke("list")
    assert (done.exit_code, done.stdout) == (0, "no runs; train one with: adjobs train --method cdo --data FOLDER\n")
    assert invoke("list", "--method", "cdo").stdout == "no such runs\n"


def test_list_has_short_ids_names_and_the_main_metric(finished, home):
    create_folder_run(folder_uri(home), "liac-bolts", {"method": "liac"})
    lines = invoke("list", "--method", "cdo").stdout.splitlines()
    assert lines[0].split() == ["run", "name", "method", "data", "state", "metric", "age"]
    assert lines[1].split()[:-2] == [
        finished.run_id[:8],
        "cdo-tiles-1130",
        "cdo",
        "tiles",
        "finished",
        "0.875",
        "test/image_auroc",
    ]
    rows = json.loads(invoke("list", "--json").stdout)["runs"]
    assert {row["name"]: row["metric"] for row in rows} == {
        "cdo-tiles-1130": {"name": "test/image_auroc", "value": 0.875},
        "liac-bolts": None,
    }
    assert invoke("list", "--limit", "1").stdout.endswith("earlier runs are left out; see --limit\n")


def test_list_without_an_answer_of_mlflow_warns_and_has_exit_status_1(finished, monkeypatch):
    def refuse(uri):
        raise TrackingError("MLflow at http://host: no answer")

    monkeypatch.setattr("adjobs.tracking.listing.connect", refuse)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    done = invoke("list")
    assert (done.exit_code, done.stderr) == (1, "warning: the runs in MLflow are missing: MLflow at http://host: no answer\n")
    assert finished.run_id[:8] in done.stdout


@pytest.mark.parametrize("name", ["cdo-tiles-1130", "short"])
def test_show_by_name_or_short_id_has_what_was_set_and_what_came_out(finished, name):
    text = invoke("show", finished.run_id[:8] if name == "short" else name).stdout
    for line in (
        f"run         {finished.run_id}",
        "data        /line/tiles; train/normal 12",
        "set         data.image_size=64, params.epochs=3",
        "threshold   0.25: ",
        "image_auroc  -    0.875  0.750 to 0.938",
        f"use it      adjobs predict --model {finished.run_id[:8]} IMAGES",
    ):
        assert line in text, text
    assert f"tracked in  {run_folder(finished)}" in text


def test_show_what_was_chosen_is_beside_what_was_set(home):
    run = create_folder_run(folder_uri(home), "cdo-tiles", {"method": "cdo"})
    job = resolve({**JOB, "params": {"distance": "nearest"}})
    open_writer(run).record_job(job, DatasetInfo("9f", "folder", {}, SplitAssignment("holdout", 0, (), (), ())))
    assert "set         data.image_size=64, params.distance=nearest\n" in invoke("show", run.run_id).stdout
    open_writer(run).set_tags({"places": "best compared with any place, so params.distance=nearest"})
    text = invoke("show", run.run_id).stdout
    assert "set         data.image_size=64\nplaces      best compared with any place, so params.distance=nearest\n" in text


def test_show_json_has_parameters_metrics_and_model(finished):
    shown = json.loads(invoke("show", finished.run_id, "--json").stdout)
    assert shown["params"] == {"data.image_size": 64, "params.epochs": 3}
    assert shown["metrics"] == {"test/image_auroc": 0.875}
    assert shown["thresholds"]["image"]["value"] == 0.25
    assert shown["model"].endswith("detector")


def test_show_run_that_failed_says_why_and_how_to_resume(home):
    run = create_folder_run(folder_uri(home), "cdo-tiles", {"method": "cdo"})
    open_writer(run).log_metrics({"train/loss": 2.0}, 1)
    open_writer(run).close(JobStatus.FAILED, ValueError("no images"))
    text = invoke("show", run.run_id).stdout
    assert "error       no images" in text
    assert "train/loss  2" in text
    assert text.endswith(f"resume it   adjobs train --resume {run.run_id[:8]}\n")


def test_show_job_of_a_method_that_is_not_installed_is_noted(finished):
    (run_folder(finished) / "job.yaml").write_text("method: future\ndata: {uri: x}\n")
    text = invoke("show", finished.run_id).stdout
    assert "set         not known" in text
    assert "note        job.yaml: unknown method 'future'" in text


def test_show_unknown_and_ambiguous_are_one_line(finished, home):
    create_folder_run(folder_uri(home), "cdo-tiles-1130", {"method": "cdo"})
    for name in ("nothing", "cdo-tiles-1130"):
        refused = invoke("show", name)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
        assert refused.stderr.startswith(f"error: run '{name}': ")


@pytest.mark.parametrize(
    "words",
    [
        ["report", "nothing"],
        ["threshold", "nothing", "--policy", "max_f1"],
        ["train", "--resume", "nothing"],
        ["predict", "--model", "nothing", "a.png"],
        ["drift", "nothing", "a.png"],
        ["label", "suggest", "nothing", "a.png", "--out", "tasks.json"],
    ],
)
def test_every_verb_that_takes_a_run_takes_its_name(finished, words, home, monkeypatch):
    """Each gets as far as looking for the run, and further with a name that exists."""
    monkeypatch.chdir(home)
    (home / "a.png").write_bytes(b"")
    refused = CliRunner().invoke(main, words)
    assert refused.stderr.startswith("error: run 'nothing': not found; give an id or a name that 'adjobs runs list' shows")
    named = CliRunner().invoke(main, ["cdo-tiles-1130" if word == "nothing" else word for word in words])
    assert "not found; give" not in named.stderr
