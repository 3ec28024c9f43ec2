"""A whole job of every method without Ray: training, MLflow, the model, and prediction with it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from adjobs import methods
from adjobs.cli.main import main
from adjobs.tracking.client import connect
from tests.drawing import draw_folder
from tests.methods.tiny import small_params


@pytest.fixture(scope="module")
def home(own_home) -> Path:
    """A home of its own with a drawn data set."""
    draw_folder(own_home / "data", 20, 10, size=64)
    return own_home


def train(home: Path, name: str, **params: object) -> dict:
    job = {"method": name, "data": {"uri": str(home / "data"), "image_size": 64}, "params": {**small_params(name), **params}}
    place = home / f"{name}.yaml"
    place.write_text(yaml.safe_dump(job))
    done = CliRunner().invoke(main, ["train", str(place), "--local", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", methods.names())
def test_a_job_reaches_mlflow_and_its_model_predicts(name, home):
    summary = train(home, name)
    client = connect(summary["tracking_uri"])
    run = client.get_run(summary["run_id"])
    spec = methods.spec(name)
    assert run.info.status == "FINISHED"
    assert {"test/image_auroc", "val/image_auroc", f"val/{spec.selection.metric}"} <= set(run.data.metrics)
    assert any(metric.startswith("train/") and metric.endswith("loss") for metric in run.data.metrics)
    assert all(math.isfinite(value) for value in run.data.metrics.values())
    # The run shows the measures of the model, not of the last round.
    assert run.data.metrics["val/image_auroc"] == summary["metrics"]["val/image_auroc"]
    done = CliRunner().invoke(
        main, ["predict", str(home / "data" / "good"), "--model", summary["model"], "--out", str(home / name)]
    )
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (home / name / "predictions.jsonl").read_text().splitlines()]
    assert len({line["score"] for line in lines}) > 1
    trained_with = methods.config_class(name)(**small_params(name)).model_dump()
    assert all(("overlay" in line) == methods.gives_map(name, trained_with) for line in lines)


def test_liac_chooses_the_round_of_the_best_f1_and_measures_its_distance(home):
    summary = train(home, "liac", heat_map=True, epochs=3)
    client = connect(summary["tracking_uri"])
    rounds = client.get_metric_history(summary["run_id"], "val/image_macro_f1_at_0.5")
    in_time = sorted(rounds, key=lambda point: (point.step, point.timestamp))
    *of_rounds, of_model = in_time
    assert [point.step for point in in_time] == [1, 2, 3, 3]
    best = max(of_rounds, key=lambda point: (point.value, point.step))
    assert summary["selected_round"] == best.step
    newest = client.get_run(summary["run_id"]).data.metrics["val/image_macro_f1_at_0.5"]
    assert best.value == of_model.value == newest
    assert summary["threshold"]["value"] == 0.5
    assert summary["metrics"]["test/image_auroc_distance"] is not None
    assert summary["metrics"]["test/pixel_auroc"] is not None


def test_pixels_of_a_method_whose_maps_are_off(home):
    summary = train(home, "liac")
    done = CliRunner().invoke(main, ["threshold", summary["run_id"], "--pixel", "--policy", "max_f1"])
    assert done.stderr == "error: --pixel: liac gives no maps without params.heat_map: true; leave --pixel out\n"
    job = ["train", str(home / "liac.yaml"), "--local", "--set", "pixel_threshold.policy=max_f1"]
    assert "liac gives no maps without params.heat_map: true; leave pixel_threshold out" in CliRunner().invoke(main, job).stderr
    assert "heat maps with params.heat_map" in CliRunner().invoke(main, ["methods"]).stdout
