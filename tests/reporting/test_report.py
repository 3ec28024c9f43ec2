"""What is read of a run, and the command."""

from __future__ import annotations

import json
import os
import re

import pytest
import yaml
from click.testing import CliRunner

from adjobs.cli.main import main
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import TrackingError
from adjobs.metrics.intervals import Estimate
from adjobs.reporting.report import RunReport, load_run_report
from adjobs.tracking.client import connect
from adjobs.tracking.layout import RunRef
from adjobs.tracking.runs import open_reader
from adjobs.types import JobStatus
from tests.helpers.reporting import THRESHOLD, Page, png, render_page, text_from


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A separate user folder."""
    root = tmp_path_factory.mktemp("report")
    patch = pytest.MonkeyPatch()
    patch.setattr("os.environ", os.environ.copy())
    patch.setenv("ADJOBS_HOME", str(root))
    for name in ("MLFLOW_TRACKING_URI", "ADJOBS_ARTIFACTS", "RAY_ADDRESS", "AWS_ENDPOINT_URL"):
        patch.delenv(name, raising=False)
    yield root
    patch.undo()


@pytest.fixture(scope="module")
def uri(home, empty_mlflow):
    return empty_mlflow(home)


@pytest.fixture(scope="module")
def client(uri):
    return connect(uri)


@pytest.fixture(scope="module")
def experiment(client, home):
    return client.create_experiment("line 3", artifact_location=(home / "artifacts").as_uri())


@pytest.fixture(scope="module")
def finished(client, experiment, tmp_path_factory):
    """A run with everything that this version records."""
    from mlflow.entities import Dataset, DatasetInput

    tags = {"method": "cdo", "data_fingerprint": "9f86", "selected_checkpoint": "2"}
    run_id = client.create_run(
        experiment, run_name="cdo-tiles", tags={f"adjobs.{key}": value for key, value in tags.items()}
    ).info.run_id
    for step, value in ((1, 2.0), (2, 1.0)):
        client.log_metric(run_id, "train/loss", value, step=step)
    client.log_metric(run_id, "test/image_auroc", 0.9, step=2)
    source = json.dumps({"uri": "s3://factory/tiles", "format": "folder"})
    dataset = Dataset("tiles", "9f86", "adjobs", source, profile=json.dumps({"train/normal": 3}))
    client.log_inputs(run_id, [DatasetInput(dataset)])
    estimate = {"value": 0.9, "low": 0.8, "high": 0.95, "reason": ""}
    size = {"value": None, "low": None, "high": None, "reason": "no regions of this size"}
    test = {
        "overall": {"image_auroc": estimate, "au_pro_small": size},
        "by_defect": {"crack": {"count": 4, "image_auroc": estimate}},
    }
    client.log_dict(run_id, {"metrics_version": 1, "confidence": 0.95, "splits": {"test": test}}, "metrics.json")
    client.log_dict(run_id, {"image": THRESHOLD.to_dict(), "pixel": None, "history": []}, "thresholds.json")
    client.log_dict(run_id, SplitAssignment("holdout", 0, ("a",), ("b",), ("c",)).to_dict(), "split.json")
    problem = {"sample": "x.png", "kind": "truncated", "message": "m", "severity": "error"}
    client.log_dict(run_id, {"excluded": [problem], "warnings": [problem]}, "preflight.json")
    client.log_text(run_id, yaml.safe_dump({"method": "cdo"}), "job.yaml")
    folder = tmp_path_factory.mktemp("figures")
    (folder / "test_roc.png").write_bytes(png())
    (folder / "broken.png").write_bytes(b"not an image")
    client.log_artifacts(run_id, str(folder), "figures")
    client.set_terminated(run_id, "FINISHED")
    return run_id


def load(uri, run_id) -> RunReport:
    return load_run_report(open_reader(RunRef(uri, run_id)))


@pytest.mark.slow
def test_load_run_report_finished_run_is_complete(uri, finished):
    loaded = load(uri, finished)
    assert (loaded.name, loaded.experiment, loaded.status, loaded.link) == ("cdo-tiles", "line 3", JobStatus.FINISHED, None)
    assert loaded.started_at is not None
    assert loaded.ended_at is not None
    assert loaded.started_at <= loaded.ended_at
    assert loaded.history == {"train/loss": [(1, 2.0), (2, 1.0)]}
    assert loaded.data == {"uri": "s3://factory/tiles", "format": "folder", "counts": {"train/normal": 3}, "fingerprint": "9f86"}
    assert loaded.split == SplitAssignment("holdout", 0, ("a",), ("b",), ("c",))
    assert loaded.splits["test"].overall == {"image_auroc": Estimate(0.9, 0.8, 0.95)}
    assert loaded.splits["test"].by_defect["crack"].count == 4
    assert loaded.splits["test"].by_region_size["small"].metrics["au_pro"].reason == "no regions of this size"
    assert loaded.thresholds["image"]["value"] == THRESHOLD.value
    assert len(loaded.excluded) == len(loaded.warnings) == 1
    assert list(loaded.figures) == ["test_roc"]
    assert loaded.job == "method: cdo\n"
    assert loaded.card is not None
    assert "0.900 0.800 to 0.950" in text_from(render_page(loaded), "image AUROC")


def test_load_run_report_killed_run_has_recorded_values(uri, client, experiment):
    tags = {"method": "cdo", "undefined_metrics": "test/pixel_ap, val/image_auroc"}
    run_id = client.create_run(experiment, tags={f"adjobs.{key}": value for key, value in tags.items()}).info.run_id
    client.log_metric(run_id, "test/image_auroc", 0.75)
    client.log_metric(run_id, "test/ms_per_image", 12.0)
    client.log_metric(run_id, "test/image_f1", float("nan"))
    client.log_text(run_id, '{"protocol": "hold', "split.json")  # killed while it wrote
    loaded = load(uri, run_id)
    assert loaded.splits["test"].overall == {"pixel_ap": Estimate(None), "image_auroc": Estimate(0.75)}
    assert loaded.splits["val"].overall == {"image_auroc": Estimate(None)}
    assert loaded.thresholds == {}
    assert loaded.split is None
    text = text_from(render_page(loaded), "Metrics")
    assert "pixel AP not defined" in text
    assert "The run recorded no split." in text


def test_load_run_report_running_run_can_be_rendered(uri, client, experiment):
    run_id = client.create_run(experiment, tags={"adjobs.method": "cdo"}).info.run_id
    loaded = load(uri, run_id)
    assert (loaded.status, loaded.ended_at, loaded.splits) == (JobStatus.RUNNING, None, {})
    assert "RUNNING" in render_page(loaded).text


def test_load_run_report_foreign_run_is_refused(uri, client, experiment):
    run_id = client.create_run(experiment).info.run_id
    with pytest.raises(TrackingError, match="not a run of adjobs; give the run id"):
        load(uri, run_id)


def invoke(*args: object):
    return CliRunner().invoke(main, ["report", *map(str, args)])


def test_report_command_writes_page(home, finished, tmp_path):
    out = tmp_path / "folder" / "page.html"
    result = invoke(finished, f"runs:/{finished}", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"out": str(out), "runs": [finished]}
    assert "cdo on tiles" in Page(out.read_text()).text
    assert re.fullmatch(rf"1 run in {re.escape(str(out))} \(\d+\.\d MB\)\n", invoke(finished, "--out", out).stdout)


@pytest.mark.parametrize("run", ["0" * 32, "../etc", "x"])
def test_report_command_unknown_run_is_one_line_and_writes_nothing(home, tmp_path, run):
    out = tmp_path / "page.html"
    result = invoke(run, "--out", out)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: run '{run}': not found" if run == "x" else "error: MLflow at sqlite:")
    assert result.stderr.count("\n") == 1
    assert not out.exists()
