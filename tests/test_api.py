"""The library: light to import, the same results as the command line, no service needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import adjobs
from adjobs.errors import DataError, JobError, StorageError
from adjobs.tracking.folder import folder_uri
from tests.helpers.drawing import draw_folder

ROOT = Path(__file__).parents[1]
OVERRIDES = [
    "params.backbone=resnet18",
    "params.weights=none",
    "params.epochs=2",
    "params.batch_size=4",
    "params.lr=0.001",
    "data.image_size=64",
]


@pytest.fixture(scope="module")
def home(own_home) -> Path:
    draw_folder(own_home / "data", 20, 10)
    draw_folder(own_home / "other", 12, 6, seed=5)
    return own_home


@pytest.fixture(scope="module")
def result(home):
    """A run without MLflow."""
    job = {"method": "cdo", "data": {"uri": str(home / "data")}, "track": "none"}
    return adjobs.train(job, overrides=OVERRIDES, progress=False)


def test_import_is_light():
    heavy = "torch", "ray", "mlflow", "boto3", "matplotlib", "pandas", "scipy", "sklearn", "pydantic", "numpy"
    code = f"import adjobs, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_prediction_needs_no_training_packages():
    """Exported detectors predict where PyTorch, Ray and MLflow are not installed."""
    heavy = "torch", "torchvision", "timm", "ray", "mlflow", "boto3", "matplotlib", "pandas", "sklearn", "sqlalchemy"
    modules = "api", "cli.predict", "inference.detector", "inference.inputs", "inference.manifest", "jobs.predict"
    imports = "; ".join(f"import adjobs.{module}" for module in modules)
    code = f"import sys; {imports}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_dir_lists_the_library():
    assert {"train", "tune", "predict", "evaluate", "load_detector", "list_methods", "JobConfig"} <= set(dir(adjobs))
    assert all(callable(getattr(adjobs, name)) for name in adjobs.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = adjobs.no_such_name


@pytest.mark.slow
def test_train_without_mlflow_keeps_the_run_in_a_folder(result, home):
    folder = home / "home" / "runs" / result.run_id
    assert result.tracking_uri == folder_uri(home / "home")
    assert (result.run_url, result.experiment) == (None, None)
    assert not (home / "home" / "mlflow").exists()
    assert Path(result.model) == folder / "detector"
    metrics = json.loads((folder / "metrics.json").read_text())
    stored = metrics["splits"]["test"]["overall"]["image_auroc"]["value"]
    assert result.metrics["test/image_auroc"] == stored
    assert json.loads((folder / "run.json").read_text())["status"] == "FINISHED"
    assert (folder / "figures" / "test_roc.png").exists()


@pytest.mark.slow
def test_train_repeated_gives_the_same_metrics_from_a_job_config_too(result, home):
    from adjobs.api import load_job

    job = load_job({"method": "cdo", "data": {"uri": str(home / "data")}, "track": "none"}, OVERRIDES)
    assert adjobs.train(job, progress=False).metrics == result.metrics


@pytest.mark.slow
def test_train_result_is_ready_for_json(result):
    document = json.loads(json.dumps(result.to_dict()))
    assert document["metrics"] == result.metrics
    assert {"run_id", "model", "threshold", "intervals", "seconds"} <= set(document)


@pytest.mark.slow
def test_load_detector_takes_a_run_and_a_folder(result, home):
    image = home / "data" / "bad" / "scratch" / "000.png"
    scores = {adjobs.load_detector(model)(image).score for model in (result.run_id, result.model, Path(result.model))}
    assert len(scores) == 1
    assert [prediction.score for prediction in adjobs.predict(result.run_id, image)] == list(scores)
    assert len(adjobs.predict(result.model, [image, image])) == 2


@pytest.mark.slow
def test_predict_scores_are_those_of_the_run(result, home):
    table = json.loads((home / "home" / "runs" / result.run_id / "scores" / "test.json").read_text())
    predictions = adjobs.predict(result.model, [home / "data" / row[0] for row in table["data"]])
    np.testing.assert_allclose([p.score for p in predictions], [row[3] for row in table["data"]], rtol=1e-6, atol=1e-5)


@pytest.mark.slow
def test_evaluate_on_other_data_and_not_on_the_training_data(result, home):
    evaluation = adjobs.evaluate(result.model, home / "other")
    assert set(evaluation.splits) == {"test"}
    assert 0 <= evaluation.metrics["test/image_auroc"] <= 1
    assert evaluation.thresholds.image.value == result.evaluation.thresholds.image.value
    with pytest.raises(DataError, match="the detector was trained on these images"):
        adjobs.evaluate(result.model, home / "data")


@pytest.mark.slow
def test_threshold_and_report_work_on_a_run_without_mlflow(result, home, tmp_path):
    from click.testing import CliRunner

    from adjobs.cli.main import main

    done = CliRunner().invoke(main, ["report", result.run_id, "--out", str(tmp_path / "report.html")])
    assert done.exit_code == 0, done.output
    assert "image AUROC" in (tmp_path / "report.html").read_text()
    done = CliRunner().invoke(main, ["threshold", result.run_id, "--policy", "max_fpr", "--value", "0.25", "--json"])
    assert done.exit_code == 0, done.output
    changed = json.loads(done.stdout)
    assert adjobs.load_detector(result.run_id).threshold == changed["new"]["value"]
    done = CliRunner().invoke(main, ["train", "--resume", result.run_id])
    assert "is FINISHED, there is nothing to resume" in done.stderr


@pytest.mark.parametrize("model", ["", ".", "/no/such/folder", "no/such", "s3://bucket/model", None, 5])
def test_load_detector_what_is_no_model_is_refused_without_mlflow(model):
    with pytest.raises(StorageError, match="is no folder of a detector; give a run id, a models:/ URI or such a folder"):
        adjobs.load_detector(model)


def test_tune_unknown_option_lists_the_available_ones():
    with pytest.raises(TypeError, match=r"tune: unknown options trails; available: metrics, sampler, .*trials, max_concurrent"):
        adjobs.tune({}, {}, trails=3)


def test_train_with_several_workers_in_this_process_is_refused(home):
    job = {"method": "cdo", "data": {"uri": str(home / "data")}, "track": "none"}
    with pytest.raises(JobError, match=r"train.workers: got 2, training in this process has 1; set 1, or train on Ray"):
        adjobs.train(job, overrides=["train.workers=2"], progress=False)


def test_python_m_adjobs():
    done = subprocess.run([sys.executable, "-m", "adjobs", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("adjobs, version ")


@pytest.mark.slow
def test_quickstart_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    program = ROOT / "examples" / "quickstart.py"
    done = subprocess.run([sys.executable, program, tmp_path / "data"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "test image AUROC" in done.stdout
    before, after = re.search(r"^threshold (\S+) -> (\S+): max_f1", done.stdout, re.MULTILINE).groups()
    assert before != after
    assert done.stdout.rstrip().endswith(f"threshold {after}")
