"""A whole job of every method without Ray: training, MLflow, the model, and prediction with it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from adjobs import methods
from adjobs.cli.main import main
from adjobs.inference.detector import read_weights
from adjobs.synthesis.contact_sheet import GAP
from adjobs.tracking.client import connect
from adjobs.tracking.logged_model import download
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import small_params


@pytest.fixture(scope="module")
def home(own_home, empty_mlflow) -> Path:
    """A home of its own with a drawn data set."""
    empty_mlflow(own_home / "home")
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


def test_liac_selects_the_checkpoint_of_the_best_f1_and_evaluates_its_distance(home):
    summary = train(home, "liac", heat_map=True, epochs=3)
    client = connect(summary["tracking_uri"])
    rounds = client.get_metric_history(summary["run_id"], "val/image_macro_f1_at_0.5")
    in_time = sorted(rounds, key=lambda point: (point.step, point.timestamp))
    *of_rounds, of_model = in_time
    assert [point.step for point in in_time] == [1, 2, 3, 3]
    best = max(of_rounds, key=lambda point: (point.value, point.step))
    assert summary["selected_checkpoint"] == best.step
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
    assert (
        "liac has no anomaly maps without params.heat_map: true; leave pixel_threshold out"
        in CliRunner().invoke(main, job).stderr
    )
    assert "heat maps with params.heat_map" in CliRunner().invoke(main, ["methods"]).stdout


@pytest.fixture(scope="module")
def slsg(home) -> dict:
    """A run of both stages."""
    return train(home, "slsg")


def test_slsg_starts_with_the_inpainting_of_another_run(home, slsg):
    first = slsg
    client = connect(first["tracking_uri"])
    assert {"train/inpaint/loss", "train/segment/loss"} <= set(client.get_run(first["run_id"]).data.metrics)
    second = train(home, "slsg", pretrain_from=first["run_id"], top_pixels=50)
    metrics = set(client.get_run(second["run_id"]).data.metrics)
    assert "train/loss" in metrics
    assert not any("inpaint" in metric for metric in metrics)
    weights = [stored_weights(summary) for summary in (first, second)]
    of_encoder = [key for key in weights[0] if key.startswith("inpainter.encoder.")]
    assert of_encoder
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in of_encoder)
    done = CliRunner().invoke(
        main,
        [
            "synth",
            "slsg",
            "--data",
            str(home / "data"),
            "--model",
            second["run_id"],
            "--count",
            "2",
            "--out",
            str(home / "sheets"),
        ],
    )
    assert done.exit_code == 0, done.output
    with Image.open(home / "sheets" / "slsg.png") as sheet:
        assert sheet.size == (2 * 64 + GAP, 5 * 64 + 4 * GAP)  # good, anomaly, mask, masked, filled


@pytest.fixture(scope="module")
def semirest(home) -> dict:
    """A run without labels."""
    return train(home, "semirest")


@pytest.mark.parametrize(("supervision", "metrics"), [("boxes", {"train/known", "train/unknown"}), ("masks", {"train/loss"})])
def test_semirest_goes_on_with_another_run(supervision, metrics, home, semirest):
    first = semirest
    second = train(home, "semirest", supervision=supervision, unsupervised_from=first["run_id"])
    client = connect(first["tracking_uri"])
    runs = [client.get_run(summary["run_id"]) for summary in (first, second)]
    assert [run.data.tags["adjobs.supervision"] for run in runs] == ["none", supervision]
    assert metrics <= set(runs[1].data.metrics)
    assert not any("learn/" in metric for metric in runs[1].data.metrics)
    weights = [stored_weights(summary) for summary in (first, second)]
    assert torch.equal(weights[0]["memory.tokens"], weights[1]["memory.tokens"])
    assert not torch.equal(weights[0]["network.head.weight"], weights[1]["network.head.weight"])
    words = ["--set", f"params.supervision={supervision}", "--set", f"params.unsupervised_from={second['run_id']}"]
    refused = CliRunner().invoke(main, ["train", str(home / "semirest.yaml"), "--local", *words])
    assert f"supervision {supervision} there, must be none; give a run that agrees, or leave it out" in refused.stderr


def stored_weights(summary: dict) -> dict[str, torch.Tensor]:
    with TemporaryDirectory() as folder:
        return read_weights(download(summary["tracking_uri"], summary["model"], Path(folder)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["params.width=24"], "width 16 there, 24 here; give a run that agrees, or leave it out"),
        (["data.uri=other"], "data fingerprint [0-9a-f]{16} there, [0-9a-f]{16} here"),
        (["data.seed=1"], "good pictures in the training part [0-9a-f]{16} there, [0-9a-f]{16} here"),
        (["data.image_size=96"], "image_size 64 there, 96 here"),
        (["params.pretrain_from=nothing"], "nothing"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_a_run_is_opened(change, message, home, slsg, tmp_path):
    summary = slsg
    other = draw_folder(tmp_path / "other", 20, 10, size=64, seed=1)
    changes = [f"params.pretrain_from={summary['run_id']}", *(each.replace("=other", f"={other}") for each in change)]
    words = [word for each in changes for word in ("--set", each)]
    client = connect(summary["tracking_uri"])
    before = len(client.search_runs([e.experiment_id for e in client.search_experiments()]))
    done = CliRunner().invoke(main, ["train", str(home / "slsg.yaml"), "--local", *words])
    assert done.exit_code == 2
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert len(client.search_runs([e.experiment_id for e in client.search_experiments()])) == before


def test_synth_with_a_model_of_another_method_is_refused(home, slsg):
    words = ["--data", str(home / "data"), "--model", slsg["run_id"]]
    assert "is a model of slsg, not of cdo" in CliRunner().invoke(main, ["synth", "cdo", *words]).stderr
    assert (
        "leave out --set or --model"
        in CliRunner().invoke(main, ["synth", "slsg", *words, "--set", "params.logical_fraction=0"]).stderr
    )
