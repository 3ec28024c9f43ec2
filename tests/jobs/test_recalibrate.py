"""Another threshold for a finished run: what changes with it, what does not, and what is refused. One tiny job for all."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from adjobs.cli.main import main
from adjobs.errors import TrackingError
from adjobs.inference.torch_detector import TorchDetector
from adjobs.metrics import ranking
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.metrics.threshold import choose_threshold
from adjobs.reporting.figures import confusion, histogram
from adjobs.tracking.client import connect
from adjobs.tracking.layout import RunRef
from adjobs.tracking.logged_model import download
from adjobs.tracking.runs import open_reader
from tests.helpers.drawing import draw_folder

pytestmark = pytest.mark.slow

SMALL = {"backbone": "resnet18", "weights": "none", "epochs": 1, "batch_size": 4}


def two_figures(scores, threshold, split, metrics):
    """Only those that show decisions."""
    return {"histogram": histogram(scores, threshold, split), "confusion": confusion(scores, threshold, split)}


@pytest.fixture(scope="module")
def home(own_home, empty_mlflow):
    """A home of its own, and a drawn data set."""
    empty_mlflow(own_home / "home")
    draw_folder(own_home / "data", 20, 10, size=32)
    with pytest.MonkeyPatch.context() as patch:
        # Only those that are checked here; the others are slow to draw.
        patch.setattr("adjobs.reporting.figures.galleries", lambda *_: {})
        patch.setattr("adjobs.reporting.figures.of_split", two_figures)
        yield own_home


@pytest.fixture(scope="module")
def summary(home):
    """A finished run with the pixel threshold at its default, the image threshold so low that everything is an alarm."""
    job = {
        "method": "cdo",
        "data": {"uri": str(home / "data"), "image_size": 32},
        "params": SMALL,
        "threshold": {"policy": "fixed", "value": -1e9},
        "track": {"model": "line"},
    }
    (home / "job.yaml").write_text(yaml.safe_dump(job))
    done = CliRunner().invoke(main, ["train", str(home / "job.yaml"), "--local", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def threshold(summary, *words: str):
    return CliRunner().invoke(main, ["threshold", summary["run_id"], *words])


def refused(result) -> str:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def document(summary, name: str):
    import mlflow

    mlflow.set_tracking_uri(summary["tracking_uri"])
    return mlflow.artifacts.load_dict(f"runs:/{summary['run_id']}/{name}")


def figures(summary, folder: Path) -> dict[str, bytes]:
    downloaded = Path(connect(summary["tracking_uri"]).download_artifacts(summary["run_id"], "figures", str(folder)))
    return {path.stem: path.read_bytes() for path in downloaded.iterdir()}


class State(NamedTuple):
    """All that a run holds at one time."""

    run: Any
    thresholds: dict[str, Any]
    metrics: dict[str, Any]
    scores: dict[str, list[list[Any]]]
    figures: dict[str, bytes]
    detector: Path


def state(summary, folder: Path) -> State:
    run = connect(summary["tracking_uri"]).get_run(summary["run_id"])
    for name in ("figures", "detector"):
        (folder / name).mkdir(parents=True)
    return State(
        run,
        document(summary, "thresholds.json"),
        document(summary, "metrics.json"),
        {split: document(summary, f"scores/{split}.json")["data"] for split in ("val", "test")},
        figures(summary, folder / "figures"),
        download(summary["tracking_uri"], run.data.tags["adjobs.model"], folder / "detector"),
    )


@pytest.fixture(scope="module")
def images(summary, tmp_path_factory):
    """Before and after a new image threshold, and what the command printed."""
    folder = tmp_path_factory.mktemp("images")
    before = state(summary, folder / "before")
    done = threshold(summary, "--policy", "max_fpr", "--value", "0.25", "--json")
    assert done.exit_code == 0, done.output
    return before, state(summary, folder / "after"), json.loads(done.stdout)


@pytest.fixture(scope="module")
def pixels(images, summary, tmp_path_factory):
    """The same for a new pixel threshold, after the image threshold."""
    folder = tmp_path_factory.mktemp("pixels")
    words = ["--policy", "max_fpr", "--value", "0.05", "--pixel", "--register", "--json"]
    done = threshold(summary, *words)
    assert done.exit_code == 0, done.output
    return images[1], state(summary, folder), json.loads(done.stdout)


def test_recalibrate_image_threshold_is_chosen_on_the_stored_validation_scores(images):
    before, after, result = images
    labels, scores = ([row[i] for row in before.scores["val"]] for i in (1, 3))
    expected = choose_threshold(ThresholdPolicy("max_fpr", 0.25), labels, scores).to_dict()
    assert {key: value for key, value in result["new"].items() if key != "meaning"} == expected == after.thresholds["image"]
    assert result["old"]["value"] == before.thresholds["image"]["value"] == -1e9


def test_recalibrate_decisions_and_metrics_follow(images):
    before, after, result = images
    threshold_value = result["new"]["value"]
    for split, rows in after.scores.items():
        assert [row[4] for row in rows] == [int(row[3] >= threshold_value) for row in rows]
        overall = after.metrics["splits"][split]["overall"]
        count = ranking.confusion([row[1] for row in rows], [row[4] for row in rows])
        assert overall["image_specificity"]["value"] == count["tn"] / (count["tn"] + count["fp"])
        recall = after.metrics["splits"][split]["by_defect"]["scratch"]["image_recall"]["value"]
        assert recall == np.mean([row[4] for row in rows if row[1]])
        for name in ("image_auroc", "pixel_auroc", "pixel_f1"):
            assert overall[name] == before.metrics["splits"][split]["overall"][name]
        if split == "test":
            for name in ("image_specificity", "image_recall"):
                assert after.run.data.metrics[f"test/{name}"] == overall[name]["value"]
        for name in ("histogram", "confusion"):
            assert after.figures[f"{split}_{name}"] != before.figures[f"{split}_{name}"]
    assert set(after.figures) == set(before.figures)
    specificity = after.metrics["splits"]["test"]["overall"]["image_specificity"]["value"]
    assert result["test"]["image_specificity"] == {"before": 0.0, "after": specificity}
    assert {**after.metrics, "splits": None} == {**before.metrics, "splits": None}


def test_recalibrate_model_has_the_old_weights_and_the_new_threshold(images, summary, home):
    before, after, result = images
    assert after.run.info.status == "FINISHED"
    assert after.run.data.tags["adjobs.model"] == result["model"] != summary["model"]
    model = connect(summary["tracking_uri"]).get_logged_model(result["model"].removeprefix("models:/"))
    assert model.source_run_id == summary["run_id"]
    weights = [(s.detector / "weights.safetensors").read_bytes() for s in (before, after)]
    assert weights[0] == weights[1]
    old, new = (json.loads((s.detector / "detector.json").read_text()) for s in (before, after))
    assert {**old, "threshold": after.thresholds["image"]} == new
    detector = TorchDetector.load(after.detector, "cpu")
    predictions = detector([home / "data" / row[0] for row in after.scores["test"]])
    alarms = [prediction.decision == "anomalous" for prediction in predictions]
    assert alarms == [bool(row[4]) for row in after.scores["test"]]
    assert 0 < sum(alarms) < len(alarms)


def test_recalibrate_metric_history_keeps_both_thresholds(images, summary):
    client = connect(summary["tracking_uri"])
    points = client.get_metric_history(summary["run_id"], "threshold")
    assert [point.value for point in points[:2]] == [-1e9, images[2]["new"]["value"]]
    assert images[1].run.data.metrics["threshold"] == images[2]["new"]["value"]


def test_recalibrate_pixel_threshold_is_chosen_on_maps_of_the_runs_data(pixels):
    before, after, result = pixels
    pixel = after.thresholds["pixel"]
    assert pixel == {key: value for key, value in result["new"].items() if key != "meaning"}
    assert 0.04 < pixel["false_alarm_rate"] <= 0.05
    assert (after.thresholds["image"], after.scores) == (before.thresholds["image"], before.scores)
    manifest = json.loads((after.detector / "detector.json").read_text())
    assert (manifest["pixel_threshold"], manifest["threshold"]) == (pixel, before.thresholds["image"])
    for split in ("val", "test"):
        overall = after.metrics["splits"][split]["overall"]
        assert overall["image_f1"] == before.metrics["splits"][split]["overall"]["image_f1"]
    assert result["test"]["pixel_f1"]["after"] == after.metrics["splits"]["test"]["overall"]["pixel_f1"]["value"]
    assert f"Pixels alarm from a score of {pixel['value']:.6g}" in after.run.data.tags["mlflow.note.content"]


def test_recalibrate_history_says_who_when_and_what(pixels):
    """Of the image threshold and then of the pixel threshold."""
    before, after, _ = pixels
    first, second = after.thresholds["history"]
    assert before.thresholds["history"] == [first]
    assert (first["level"], first["old"]["value"], first["new"]) == ("image", -1e9, after.thresholds["image"])
    assert (second["level"], second["old"], second["new"]) == ("pixel", before.thresholds["pixel"], after.thresholds["pixel"])
    assert all(change["by"] for change in (first, second))
    assert datetime.fromisoformat(first["time"]).utcoffset().total_seconds() == 0
    assert first["time"] <= second["time"]


def test_recalibrate_only_register_makes_a_new_version(pixels, summary, tmp_path):
    """Version 1 is of the training, the image threshold was not registered, the pixel threshold was."""
    assert (pixels[2]["registered"], len(connect(summary["tracking_uri"]).search_model_versions("name='line'"))) == ("line", 2)
    folder = download(summary["tracking_uri"], "models:/line/2", tmp_path)
    assert json.loads((folder / "detector.json").read_text())["pixel_threshold"] == pixels[1].thresholds["pixel"]


def test_download_run_stands_for_its_newest_complete_model(pixels, summary, tmp_path):
    """Trained once, given another threshold twice, and then a third time, of which the upload was cut off."""
    from mlflow.entities import LoggedModelOutput

    client, run = connect(summary["tracking_uri"]), pixels[1].run
    cut = client.create_logged_model(run.info.experiment_id, "model", source_run_id=run.info.run_id)
    client.log_outputs(run.info.run_id, [LoggedModelOutput(cut.model_id, 0)])
    folder = download(summary["tracking_uri"], run.info.run_id, tmp_path)
    manifest = json.loads((folder / "detector.json").read_text())
    assert {"image": manifest["threshold"], "pixel": manifest["pixel_threshold"]} == {
        level: pixels[1].thresholds[level] for level in ("image", "pixel")
    }
    fresh = client.create_run(run.info.experiment_id, tags={"adjobs.storage": "x"}).info.run_id
    client.log_outputs(fresh, [LoggedModelOutput(cut.model_id, 0)])
    with pytest.raises(TrackingError, match="has no model; finish it with"):
        download(summary["tracking_uri"], fresh, tmp_path)


def test_recalibrate_metric_that_is_no_longer_defined_is_named(pixels, summary, monkeypatch):
    """Without an alarm there is no precision."""
    monkeypatch.setattr("adjobs.reporting.figures.of_split", lambda *_: {})  # drawn above
    done = threshold(summary, "--policy", "fixed", "--value", "1e9")
    assert done.exit_code == 0, done.output
    assert "image_precision" in done.stdout
    assert "undefined" in done.stdout
    run = connect(summary["tracking_uri"]).get_run(summary["run_id"])
    assert run.data.metrics["test/image_recall"] == 0
    assert "test/image_precision" in run.data.tags["adjobs.undefined_metrics"]
    assert f"adjobs predict --model {summary['run_id']}" in done.stdout


def test_recalibrate_register_without_a_registered_model_is_refused(summary, monkeypatch):
    stored = open_reader(RunRef(summary["tracking_uri"], summary["run_id"])).stored_run()
    nameless = stored.job.model_copy(update={"track": stored.job.track.model_copy(update={"model": None})})
    monkeypatch.setattr("adjobs.tracking.reader.MlflowRunReader.stored_run", lambda _: replace(stored, job=nameless))
    line = refused(threshold(summary, "--policy", "max_f1", "--register"))
    assert "names no registered model (track.model); remove --register" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "max_f2"], "'--policy': 'max_f2' is not one of 'fixed', 'max_f1'"),
        (["--policy", "max_fpr"], "max_fpr: got value None, allowed is 0 or more and below 1; set value"),
        (["--policy", "max_fpr", "--value", "0.01", "--strict"], "takes 299 normal validation images without an alarm, got 4"),
        (["--policy", "max_f1", "--confidence", "2"], "'--confidence': 2.0 is not in the range 0<x<1"),
        (
            ["--policy", "max_fpr", "--value", "0.5", "--strict", "--pixel"],
            "--strict: the threshold for pixels has no bound to keep to",
        ),
        (["--policy", "miss_cost", "--pixel"], "pixel_threshold.policy miss_cost: got value None"),
    ],
)
def test_recalibrate_impossible_policy_changes_nothing(summary, words, message):
    import re

    before = document(summary, "thresholds.json")
    assert re.search(message, refused(threshold(summary, *words)))
    assert document(summary, "thresholds.json") == before


def test_recalibrate_run_without_a_model_is_refused(summary):
    assert "not found" in refused(threshold({"run_id": "0" * 32}, "--policy", "max_f1"))
    client = connect(summary["tracking_uri"])
    known = client.get_run(summary["run_id"])
    foreign = client.create_run(known.info.experiment_id)
    assert "not a training of adjobs" in refused(threshold({"run_id": foreign.info.run_id}, "--policy", "max_f1"))
    client.update_run(summary["run_id"], status="FAILED")
    try:
        assert "is FAILED, must be FINISHED; finish it with" in refused(threshold(summary, "--policy", "max_f1"))
    finally:
        client.update_run(summary["run_id"], status="FINISHED")


def test_recalibrate_pixel_threshold_on_changed_data_is_refused(summary, home):
    image = home / "data" / "good" / "000.png"
    content = image.read_bytes()
    image.write_bytes((home / "data" / "good" / "001.png").read_bytes())
    try:
        line = refused(threshold(summary, "--policy", "max_fpr", "--value", "0.01", "--pixel"))
    finally:
        image.write_bytes(content)
    assert "restore the data" in line
