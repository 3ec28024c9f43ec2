"""Whole jobs of every method in one process: training, the run in MLflow, the model, and predictions with it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from PIL import Image

import adjobs
from adjobs import methods
from adjobs.cli.main import main
from adjobs.inference.detector_folder import read_weights
from adjobs.jobs.result import TrainResult
from adjobs.synthesis.contact_sheet import GAP
from adjobs.tracking.client import connect
from adjobs.tracking.logged_model import download
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import small_params

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(own_home, empty_mlflow) -> Path:
    """A folder with a data set, and adjobs' home in it."""
    empty_mlflow(own_home / "home")
    draw_folder(own_home / "data", 20, 10, size=64)
    return own_home


@pytest.fixture(scope="module")
def slsg(home) -> TrainResult:
    """A run of both stages."""
    return train(home, "slsg")


@pytest.fixture(scope="module")
def semirest(home) -> TrainResult:
    """An unsupervised run."""
    return train(home, "semirest")


def write_job(home: Path, name: str, **params: object) -> Path:
    job = {"method": name, "data": {"uri": str(home / "data"), "image_size": 64}, "params": {**small_params(name), **params}}
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def train(home: Path, name: str, **params: object) -> TrainResult:
    return adjobs.train(write_job(home, name, **params), progress=False)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def stored_weights(result: TrainResult) -> dict[str, torch.Tensor]:
    with TemporaryDirectory() as folder:
        return read_weights(download(result.tracking_uri, result.model, Path(folder)))


@pytest.mark.parametrize("name", methods.names())
def test_train_records_a_run_whose_model_predicts(name, home):
    result = train(home, name)
    run = connect(result.tracking_uri).get_run(result.run_id)
    assert run.info.status == "FINISHED"
    selection = methods.spec(name).selection
    assert {"test/image_auroc", "val/image_auroc", f"val/{selection.metric}"} <= set(run.data.metrics)
    assert any(metric.startswith("train/") and metric.endswith("loss") for metric in run.data.metrics)
    assert all(math.isfinite(value) for value in run.data.metrics.values())
    # The last value of a metric is that of the model, not of the last checkpoint.
    assert run.data.metrics["val/image_auroc"] == result.metrics["val/image_auroc"]
    done = invoke("predict", home / "data" / "good", "--model", result.model, "--out", home / name)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (home / name / "predictions.jsonl").read_text().splitlines()]
    assert len({line["score"] for line in lines}) > 1
    params = methods.config_class(name)(**small_params(name)).model_dump()
    assert all(("overlay" in line) == methods.gives_map(name, params) for line in lines)


def test_liac_selects_the_checkpoint_of_the_best_f1_and_evaluates_its_distance(home):
    result = train(home, "liac", heat_map=True, epochs=3)
    client = connect(result.tracking_uri)
    history = client.get_metric_history(result.run_id, "val/image_macro_f1_at_0.5")
    *of_checkpoints, of_model = sorted(history, key=lambda point: (point.step, point.timestamp))
    assert [point.step for point in (*of_checkpoints, of_model)] == [1, 2, 3, 3]
    best = max(of_checkpoints, key=lambda point: (point.value, point.step))
    assert result.selected_checkpoint == best.step
    latest = client.get_run(result.run_id).data.metrics["val/image_macro_f1_at_0.5"]
    assert best.value == of_model.value == latest
    assert result.to_dict()["threshold"]["value"] == 0.5
    assert result.metrics["test/image_auroc_distance"] is not None
    assert result.metrics["test/pixel_auroc"] is not None


def test_pixel_threshold_of_a_method_without_maps_is_refused(home):
    result = train(home, "liac")
    done = invoke("threshold", result.run_id, "--pixel", "--policy", "max_f1")
    assert done.stderr == "error: --pixel: liac gives no anomaly maps without params.heat_map: true; remove --pixel\n"
    done = invoke("train", home / "liac.yaml", "--local", "--set", "pixel_threshold.policy=max_f1")
    assert "liac has no anomaly maps without params.heat_map: true; leave pixel_threshold out" in done.stderr
    assert "anomaly maps with params.heat_map" in invoke("methods").stdout


def test_slsg_pretrain_from_reuses_the_inpainting_of_another_run(home, slsg):
    client = connect(slsg.tracking_uri)
    assert {"train/inpaint/loss", "train/segment/loss"} <= set(client.get_run(slsg.run_id).data.metrics)
    second = train(home, "slsg", pretrain_from=slsg.run_id, top_pixels=50)
    metrics = set(client.get_run(second.run_id).data.metrics)
    assert "train/loss" in metrics
    assert not any("inpaint" in metric for metric in metrics)
    weights = [stored_weights(result) for result in (slsg, second)]
    encoder_keys = [key for key in weights[0] if key.startswith("inpainter.encoder.")]
    assert encoder_keys
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in encoder_keys)
    sheets = home / "sheets"
    done = invoke("synth", "slsg", "--data", home / "data", "--model", second.run_id, "--count", "2", "--out", sheets)
    assert done.exit_code == 0, done.output
    with Image.open(sheets / "slsg.png") as sheet:
        assert sheet.size == (2 * 64 + GAP, 5 * 64 + 4 * GAP)  # normal, anomaly, mask, masked, inpainted


@pytest.mark.parametrize(("supervision", "metrics"), [("boxes", {"train/known", "train/unknown"}), ("masks", {"train/loss"})])
def test_semirest_unsupervised_from_continues_another_run(supervision, metrics, home, semirest):
    second = train(home, "semirest", supervision=supervision, unsupervised_from=semirest.run_id)
    client = connect(semirest.tracking_uri)
    runs = [client.get_run(result.run_id) for result in (semirest, second)]
    assert [run.data.tags["adjobs.supervision"] for run in runs] == ["none", supervision]
    assert metrics <= set(runs[1].data.metrics)
    assert not any("learn/" in metric for metric in runs[1].data.metrics)
    weights = [stored_weights(result) for result in (semirest, second)]
    assert torch.equal(weights[0]["memory.tokens"], weights[1]["memory.tokens"])
    assert not torch.equal(weights[0]["network.head.weight"], weights[1]["network.head.weight"])
    overrides = ["--set", f"params.supervision={supervision}", "--set", f"params.unsupervised_from={second.run_id}"]
    done = invoke("train", home / "semirest.yaml", "--local", *overrides)
    assert f"its supervision is {supervision}, must be none; use a run that agrees, or remove the parameter" in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("params.width=24", "its width is 16, this job's is 24; use a run that agrees, or remove the parameter"),
        ("data.uri=OTHER", "its data fingerprint is [0-9a-f]{16}, this job's is [0-9a-f]{16}"),
        ("data.seed=1", "its normal training images is [0-9a-f]{16}, this job's is [0-9a-f]{16}"),
        ("data.image_size=96", "its image_size is 64, this job's is 96"),
        ("params.pretrain_from=nothing", "nothing"),
    ],
)
def test_warm_start_that_does_not_match_is_refused_before_a_run_is_opened(override, message, home, slsg, tmp_path):
    other = draw_folder(tmp_path / "other", 20, 10, size=64, seed=1)
    client = connect(slsg.tracking_uri)

    def count_runs() -> int:
        return len(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))

    before = count_runs()
    overrides = ["--set", f"params.pretrain_from={slsg.run_id}", "--set", override.replace("OTHER", str(other))]
    done = invoke("train", home / "slsg.yaml", "--local", *overrides)
    assert done.exit_code == 2
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert count_runs() == before


def test_synth_model_of_another_method_is_refused(home, slsg):
    arguments = ["--data", home / "data", "--model", slsg.run_id]
    assert "is a model of slsg, not of cdo" in invoke("synth", "cdo", *arguments).stderr
    done = invoke("synth", "slsg", *arguments, "--set", "params.logical_fraction=0")
    assert "leave out --set or --model" in done.stderr
