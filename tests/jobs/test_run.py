"""What a run leaves in MLflow: one small job trained in this process, checked from all sides."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from adjobs.cli.main import main
from adjobs.config.environment import load_settings
from adjobs.errors import StorageError, TrackingError
from adjobs.inference.torch_detector import TorchDetector
from adjobs.jobs.lifecycle import driver_tags
from adjobs.metrics import METRICS_VERSION
from adjobs.tracking.client import connect
from adjobs.tracking.layout import TEST_COLUMNS, RunRef
from adjobs.tracking.logged_model import download, pin_model_uri
from adjobs.tracking.reader import MlflowRunReader
from adjobs.tracking.runs import open_reader
from tests.helpers.drawing import draw_folder
from tests.helpers.versioned import add, create, draw, open_set

pytestmark = pytest.mark.slow

SMALL = [
    "params.backbone=resnet18",
    "params.weights=none",
    "params.epochs=2",
    "params.batch_size=4",
    "data.image_size=64",
    "params.lr=0.001",
]


@pytest.fixture(scope="module")
def home(own_home, empty_mlflow):
    """A home of its own, and a drawn data set."""
    empty_mlflow(own_home / "home")
    draw_folder(own_home / "data", 20, 10)
    with contextlib.chdir(own_home):
        yield own_home


def set_options(*more: str) -> list[str]:
    return [item for setting in [*SMALL, *more] for item in ("--set", setting)]


@pytest.fixture(scope="module")
def summary(home):
    """What ``adjobs train --json`` prints."""
    job = home / "job.yaml"
    job.write_text(
        yaml.safe_dump({"method": "cdo", "data": {"uri": str(home / "data")}, "track": {"experiment": "line", "model": "line"}})
    )
    done = CliRunner().invoke(main, ["train", str(job), "--local", "--json", *set_options()])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def run(summary):
    return connect(summary["tracking_uri"]).get_run(summary["run_id"])


def test_train_json_has_the_promised_keys(summary):
    promised = {"run_id", "method", "data_fingerprint", "metrics", "threshold", "images_per_s", "seconds"}
    assert promised <= set(summary)
    names = ("image_auroc", "image_ap", "image_f1", "image_f1max", "image_accuracy", "pixel_auroc", "pixel_ap", "au_pro")
    for name in (f"{split}/{name}" for split in ("val", "test") for name in names):
        low, high = summary["intervals"][name]
        assert name in summary["reasons"] if low is None else low <= summary["metrics"][name] <= high
    undefined = {name for name, value in summary["metrics"].items() if value is None}
    assert {"val/au_pro_small", "test/au_pro_medium"} <= undefined <= set(summary["reasons"])


def test_train_closes_the_run_and_records_the_job(run, summary):
    assert run.info.status == "FINISHED"
    assert run.data.tags["adjobs.data_fingerprint"] == summary["data_fingerprint"]
    assert run.data.tags["adjobs.method"] == "cdo"
    assert run.data.params["params.backbone"] == "resnet18"
    assert "train.seed" not in run.data.params, "the default does not distinguish runs"
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.digest == summary["data_fingerprint"][:36]


def test_train_model_belongs_to_the_experiment_and_leaves_no_files(run, summary, home):
    client = connect(summary["tracking_uri"])
    model = client.get_logged_model(summary["model"].removeprefix("models:/"))
    assert model.experiment_id == run.info.experiment_id
    assert model.source_run_id == run.info.run_id
    assert model.artifact_location.startswith((home / "home").as_uri())
    assert sorted(path.name for path in home.iterdir()) == ["data", "home", "job.yaml"]


def test_train_metrics_are_recorded_for_every_epoch(run, summary):
    client = connect(summary["tracking_uri"])
    for name in ("train/loss", "train/level_1", "train/lr", "train/images_per_s", "train/peak_memory_mib", "val/image_auroc"):
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, name)]
        assert set(steps) == {1, 2}, name
    assert run.data.metrics["test/image_auroc"] == summary["metrics"]["test/image_auroc"]


def test_train_artifacts_of_the_run(run, summary, tmp_path):
    client = connect(summary["tracking_uri"])
    folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    assert yaml.safe_load((folder / "job.yaml").read_text())["params"]["gamma"] == 2.0
    thresholds = json.loads((folder / "thresholds.json").read_text())
    assert thresholds["image"]["value"] == summary["threshold"]["value"]
    assert thresholds["pixel"]["policy"] == "max_f1"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["metrics_version"] == METRICS_VERSION
    assert metrics["splits"]["test"]["by_defect"]["scratch"]["count"] == 4
    estimate = MlflowRunReader(RunRef(summary["tracking_uri"], run.info.run_id)).estimates()["test/image_auroc"]
    assert [estimate.low, estimate.high] == summary["intervals"]["test/image_auroc"]
    table = json.loads((folder / "scores" / "test.json").read_text())
    split = json.loads((folder / "split.json").read_text())
    assert sorted(row[0] for row in table["data"]) == sorted(split["test"])
    for split_name in ("val", "test"):
        for name in ("histogram", "roc", "pr", "pro", "confusion", "defects"):
            assert np.asarray(Image.open(folder / "figures" / f"{split_name}_{name}.png").convert("L")).std() > 5


def test_train_run_is_described_for_people(run, summary, tmp_path):
    """What MLflow shows first: numbers, data, thresholds, a picture, a report; who made it with what; few columns."""
    client = connect(summary["tracking_uri"])
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith(f"image AUROC {summary['metrics']['test/image_auroc']:.3f}, recall ")
    assert "**Collaborative Discrepancy Optimization (`cdo`)** on `data`: training " in note
    assert f"Images alarm from a score of {summary['threshold']['value']:.6g}: {summary['threshold']['meaning']}" in note
    assert f"get-artifact?path=description.png&run_uuid={run.info.run_id}" in note
    assert f"adjobs predict --model {run.info.run_id} IMAGES" in note
    assert Image.open(client.download_artifacts(run.info.run_id, "description.png", str(tmp_path))).width < 600
    report = Path(client.download_artifacts(run.info.run_id, "report.html", str(tmp_path))).read_text()
    assert "FINISHED" in report
    assert run.info.run_name.startswith("cdo-data-")
    assert run.data.tags["mlflow.source.name"]
    assert run.data.tags["mlflow.user"]
    columns = {name for name in run.data.metrics if not name.startswith(("train/", "val/"))}
    assert columns == {*(f"test/{name}" for name in TEST_COLUMNS if name != "au_spro"), "test/ms_per_image", "threshold"}
    version, model = client.get_model_version("line", "1"), client.get_registered_model("line")
    assert version.description.startswith("image AUROC ")
    assert "`adjobs predict --model models:/line/1 IMAGES`" in version.description
    assert "`adjobs models promote line/VERSION`" in model.description
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_log_model_holds_no_pickle(summary, tmp_path):
    import mlflow

    mlflow.set_tracking_uri(summary["tracking_uri"])
    folder = Path(mlflow.artifacts.download_artifacts(summary["model"], dst_path=str(tmp_path)))
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file() and "code" not in path.parts}
    assert ".safetensors" in suffixes
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".bin"}


def test_logged_model_brings_the_code_of_adjobs(summary, tmp_path):
    code = (
        f"import mlflow; mlflow.set_tracking_uri({summary['tracking_uri']!r}); "
        f"mlflow.pyfunc.load_model({summary['model']!r}, dst_path={str(tmp_path)!r}); "
        "import adjobs.inference.detector as module; print(module.__file__)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout.strip().endswith("code/adjobs.zip/adjobs/inference/detector.py"), result.stderr


@pytest.mark.parametrize("split", ["val", "test"])
def test_logged_model_predicts_what_training_did(summary, home, tmp_path, split):
    import mlflow

    mlflow.set_tracking_uri(summary["tracking_uri"])
    model = mlflow.pyfunc.load_model(summary["model"])
    table = mlflow.artifacts.load_dict(f"runs:/{summary['run_id']}/scores/{split}.json")
    images = [(home / "data" / row[0]).read_bytes() for row in table["data"]]
    predictions = model.predict(pd.DataFrame({"image": images}))
    np.testing.assert_allclose(predictions["score"], [row[3] for row in table["data"]], rtol=1e-6, atol=1e-5)
    # A batch of one rounds differently from a batch of sixteen, and the threshold is the score of a validation image.
    clear = [abs(row[3] - summary["threshold"]["value"]) > 1e-5 * abs(row[3]) for row in table["data"]]
    assert sum(clear) >= len(clear) - 1
    decisions = predictions["decision"].astype(int)[clear].tolist()
    assert decisions == [row[4] for row, is_clear in zip(table["data"], clear, strict=True) if is_clear]
    assert np.asarray(predictions["anomaly_map"][0]).shape == (64, 64)
    detector = TorchDetector.load(download(summary["tracking_uri"], summary["model"], tmp_path))
    anomaly_map = detector(images[0]).anomaly_map
    np.testing.assert_allclose(np.asarray(predictions["anomaly_map"][0]), anomaly_map, rtol=1e-6, atol=1e-5)


def test_predict_unreadable_file_leaves_the_others_predicted(summary, home, tmp_path):
    unreadable = tmp_path / "unreadable.png"
    unreadable.write_bytes(b"not an image")
    scratched = home / "data" / "bad" / "scratch" / "000.png"
    paths = [str(scratched), str(home / "data" / "good"), str(unreadable)]
    done = CliRunner().invoke(main, ["predict", "--model", summary["run_id"], "--out", str(tmp_path / "out"), "--json", *paths])
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert lines == result["predictions"]
    assert len(lines) == 22
    assert set(lines[0]) == {"path", "score", "decision", "threshold", "milliseconds", "overlay", "defect_area", "regions"}
    assert "is not a supported image" in lines[-1]["error"]
    overlay = np.asarray(Image.open(lines[0]["overlay"]))
    assert overlay.shape == (384, 768, 3)
    assert np.ptp(overlay[:, 384:].astype(int) - overlay[:, :384].astype(int)) > 0


def test_pin_model_uri_resolves_runs_and_aliases(summary):
    uri = summary["tracking_uri"]
    connect(uri).set_registered_model_alias("line", "now", 1)
    assert pin_model_uri(uri, summary["run_id"]) == pin_model_uri(uri, summary["model"]) == summary["model"]
    assert pin_model_uri(uri, "models:/line@now") == pin_model_uri(uri, "models:/line/1") == "models:/line/1"


def test_predict_registered_model(summary, home, tmp_path):
    path = str(home / "data" / "good" / "000.png")
    done = CliRunner().invoke(main, ["predict", "--model", "models:/line/1", "--out", str(tmp_path), path])
    assert done.exit_code == 0, done.output
    assert "000.png" in done.stdout


def test_train_repeated_gives_the_same_metrics(summary, home):
    done = CliRunner().invoke(
        main,
        ["train", "--method", "cdo", "--data", str(home / "data"), "--local", "--json", *set_options("track.experiment=again")],
    )
    assert json.loads(done.stdout)["metrics"] == summary["metrics"]


def test_train_bf16_is_evaluated_as_the_logged_model_decides(home, tmp_path):
    words = ["train", "--method", "cdo", "--data", str(home / "data"), "--local", "--json"]
    done = CliRunner().invoke(main, [*words, *set_options("track.experiment=bf16", "train.precision=bf16", "params.epochs=1")])
    assert done.exit_code == 0, done.output
    bf16 = json.loads(done.stdout)
    detector = TorchDetector.load(download(bf16["tracking_uri"], bf16["run_id"], tmp_path), "cpu")
    import mlflow

    table = mlflow.artifacts.load_dict(f"runs:/{bf16['run_id']}/scores/test.json")
    scores = [detector(home / "data" / row[0]).score for row in table["data"]]
    np.testing.assert_allclose(scores, [row[3] for row in table["data"]], rtol=1e-6, atol=1e-5)


def test_stored_run_has_what_a_resume_needs(summary):
    stored = open_reader(RunRef(summary["tracking_uri"], summary["run_id"])).stored_run()
    assert stored.job.params["epochs"] == 2
    assert stored.fingerprint == summary["data_fingerprint"]


def test_train_failed_run_is_closed_with_its_error(home):
    done = CliRunner().invoke(
        main,
        [
            "train",
            "--method",
            "cdo",
            "--data",
            str(home / "data"),
            "--local",
            *set_options("params.lr=1", "params.weight_decay=1", "track.experiment=broken", "params.weights=/no/such/file"),
        ],
    )
    assert done.exit_code == 2
    assert "error: params.weights '/no/such/file': no such file" in done.stderr
    client = connect(load_settings().tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("broken").experiment_id])
    assert run.info.status == "FAILED"
    assert "no such file" in run.data.tags["adjobs.error"]


@pytest.mark.parametrize(
    ("model", "message"),
    [("0" * 32, "Run with id=0+ not found|not found"), ("models:/nothing/1", "not found"), ("models:/line@nobody", "alias")],
)
def test_predict_unknown_model_is_one_line(summary, home, model, message):
    done = CliRunner().invoke(main, ["predict", "--model", model, str(home / "data" / "good" / "000.png")])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: MLflow at sqlite://")
    assert done.stderr.count("\n") == 1


def test_train_mlflow_down_is_one_line(home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = CliRunner().invoke(main, ["train", "--method", "cdo", "--data", str(home / "data"), "--local", *set_options()])
    assert done.exit_code == 2
    assert "MLflow at http://127.0.0.1:9: no answer; start it" in done.stderr


def test_stored_run_foreign_run_is_refused(summary):
    client = connect(summary["tracking_uri"])
    run = client.create_run(client.get_experiment_by_name("line").experiment_id)
    with pytest.raises(TrackingError, match="not a training of adjobs"):
        open_reader(RunRef(summary["tracking_uri"], run.info.run_id)).stored_run()


def test_resume_run_that_has_not_recorded_its_job_yet_says_why(summary, home):
    client = connect(summary["tracking_uri"])
    experiment = client.get_experiment_by_name("line").experiment_id
    tags = {"adjobs.method": "cdo", "adjobs.driver": driver_tags()["driver"]}
    run_id = client.create_run(experiment, tags=tags).info.run_id
    done = CliRunner().invoke(main, ["train", "--resume", run_id])
    assert f"run {run_id}: its driver {tags['adjobs.driver']} is still running; stop it first" in done.stderr
    client.set_terminated(run_id, "KILLED")
    for storage in (None, "s3://bucket/storage"):
        if storage is not None:
            client.set_tag(run_id, "adjobs.storage", storage)
        done = CliRunner().invoke(main, ["train", "--resume", run_id])
        assert done.exit_code == 2
        assert f"run {run_id}: its job is not recorded; start a new run with the job file" in done.stderr


def test_resume_of_a_search_names_its_command(summary, home):
    client = connect(summary["tracking_uri"])
    experiment = client.get_experiment_by_name("line").experiment_id
    run_id = client.create_run(experiment, tags={"adjobs.method": "cdo", "adjobs.kind": "search"}).info.run_id
    done = CliRunner().invoke(main, ["train", "--resume", run_id])
    assert f"run {run_id}: is a search; resume it with 'adjobs tune --resume {run_id}'" in done.stderr
    done = CliRunner().invoke(main, ["tune", "--resume", run_id])  # its driver died before the search had its name
    assert done.exit_code == 2
    assert f"search '{run_id}': does not exist" in done.stderr


def test_resume_finished_run_is_refused(summary, home):
    done = CliRunner().invoke(main, ["train", "--resume", summary["run_id"]])
    assert done.exit_code == 2
    assert "is FINISHED, there is nothing to resume" in done.stderr


def test_train_on_normal_images_alone_ends_with_a_model_and_says_what_is_undefined(home, tmp_path):
    draw_folder(home / "normal", 20, 0)
    arguments = ["train", "--method", "cdo", "--data", str(home / "normal"), "--local", "--json", *set_options("params.epochs=1")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    trained = json.loads(done.stdout)
    defined = {name.split("/")[1] for name, value in trained["metrics"].items() if value is not None}
    assert defined == {"image_accuracy", "image_specificity"}
    assert {reason for name, reason in trained["reasons"].items() if name.split("/")[1] not in defined} == {"no anomalous images"}
    assert trained["threshold"]["policy"] == "max_fpr"
    run = connect(trained["tracking_uri"]).get_run(trained["run_id"])
    assert all(np.isfinite(value) for value in run.data.metrics.values())
    assert "test/image_specificity" in run.data.metrics
    assert "test/image_auroc" in run.data.tags["adjobs.undefined_metrics"]
    report = CliRunner().invoke(main, ["report", trained["run_id"], "--out", str(tmp_path / "report.html")])
    assert report.exit_code == 0, report.output
    assert "The test split has no anomalous images." in (tmp_path / "report.html").read_text()
    predicted = CliRunner().invoke(
        main,
        ["predict", str(home / "normal" / "good" / "000.png"), "--model", trained["run_id"], "--out", str(tmp_path), "--json"],
    )
    assert predicted.exit_code == 0, predicted.output
    assert [np.isfinite(line["score"]) for line in json.loads(predicted.stdout)["predictions"]] == [True]


def test_resume_of_a_job_on_a_data_set_that_has_grown_reads_the_version_that_it_started_with(home, monkeypatch):
    def fail(training: object) -> NoReturn:
        raise StorageError("cannot store x: disk full")

    create(home, home / "data")
    data = ["--method", "cdo", "--data", str(home / "set"), "--local"]
    with monkeypatch.context() as patch:
        patch.setattr("adjobs.jobs.run.finalize_run", fail)
        failed = CliRunner().invoke(main, ["train", *data, *set_options("data.protocol=official", "track.experiment=grown")])
    assert "disk full" in failed.stderr
    client = connect(load_settings().tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("grown").experiment_id])
    add(home, draw(home / "inbox", "good/x.png scratch/y.png", seed=1))
    resumed = CliRunner().invoke(main, ["train", "--resume", run.info.run_id, "--json"])
    assert resumed.exit_code == 0, resumed.output
    assert json.loads(resumed.stdout)["data_fingerprint"] == open_set(home).record(1).fingerprint
    assert (run.data.params["data.version"], run.data.tags["adjobs.data_version"]) == ("1", "1")
