"""Real Ray, MLflow and S3: jobs whose workers and drivers are killed end as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from safetensors.numpy import load_file

from adjobs.cli.main import main
from adjobs.stack import processes
from adjobs.stack.probes import Exposure, check_listeners
from adjobs.storage import open_store
from adjobs.tracking.client import connect
from adjobs.tracking.logged_model import download
from tests.helpers.drawing import draw_folder
from tests.integration.conftest import client_of

pytestmark = pytest.mark.slow
ADJOBS = str(Path(sys.executable).with_name("adjobs"))
EPOCHS = 20


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    """A job of two workers on drawn pictures; small networks, long enough to be killed in the middle."""
    folder = tmp_path_factory.mktemp("job")
    draw_folder(folder / "data", 40, 15)
    params = {"backbone": "resnet18", "weights": "none", "last_level": 1, "epochs": EPOCHS, "batch_size": 4, "lr": 0.001}
    document = {
        "method": "cdo",
        "data": {"uri": "data", "image_size": 64},
        "params": params,
        "train": {"workers": 2, "cpus_per_worker": 1},
        "track": {"experiment": "killed"},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(document))
    return folder / "job.yaml"


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([ADJOBS, *arguments, "--json"], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def train(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return start("train", *arguments, cwd=cwd)


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-2000:]
    return json.loads(out)


def wait_for(poll: Callable[[], Any], seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = poll()
        if value is not None:
            return value
        time.sleep(0.2)
    raise AssertionError("waited in vain")


def new_run(known: set[str], name: str = "killed") -> str | None:
    """A run of the experiment that is not among those known."""
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return next((run.info.run_id for run in runs if run.info.run_id not in known), None)


def epochs_of(run_id: str) -> int:
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    return len({metric.step for metric in client.get_metric_history(run_id, "train/loss")})


def weights(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    return load_file(download(summary["tracking_uri"], summary["model"], folder) / "weights.safetensors")


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert [key for key in one if one[key].tobytes() != other[key].tobytes()] == []


@pytest.fixture(scope="module")
def undisturbed(stack, job, tmp_path_factory) -> dict[str, Any]:
    """The job as it should be, submitted as a Ray job: its run, and the weights of its model."""
    with client_of(stack), pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS")  # as 'adjobs status --env' leaves it
        command = ["job", "submit", "--submission-id", "submitted-1", "--working-dir", ".", "--", "adjobs", "train", "job.yaml"]
        ray = str(Path(sys.executable).with_name("ray"))
        done = subprocess.run([ray, *command], cwd=job.parent, capture_output=True, text=True, check=False, timeout=400)
        assert done.returncode == 0, done.stdout[-3000:]
        uri = os.environ["MLFLOW_TRACKING_URI"]
        run = connect(uri).get_run(new_run(set()))
        model = {"tracking_uri": uri, "model": run.info.run_id}
        return {"run": run, "weights": weights(model, tmp_path_factory.mktemp("weights"))}


@pytest.fixture(autouse=True)
def _client(stack_env) -> None:
    """Every test is a client of the stack."""


def test_a_submitted_job_leaves_a_closed_run_that_says_where_it_came_from(undisturbed):
    run = undisturbed["run"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["adjobs.ray_job"] == "submitted-1"
    assert run.data.tags["adjobs.storage"] == f"s3://adjobs/checkpoints/{run.info.run_id}"
    assert epochs_of(run.info.run_id) == EPOCHS


def test_last_and_best_state_lie_in_s3_and_nothing_older(undisturbed):
    names = [entry.key for entry in open_store(undisturbed["run"].data.tags["adjobs.storage"]).list()]
    assert sum(name.endswith("state.pt") for name in names) == 1
    assert sum(name.endswith("best.safetensors") for name in names) == 1


def test_a_killed_worker_and_then_a_killed_driver_change_nothing(stack, undisturbed, job, tmp_path):
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    first = undisturbed["run"]
    process = train(str(job), cwd=job.parent)
    run_id = wait_for(lambda: new_run({first.info.run_id}))
    second = CliRunner().invoke(main, ["train", "--resume", run_id])  # while Ray starts the workers
    wait_for(lambda: epochs_of(run_id) >= 2 or None)
    workers = [one for one in processes.stack_processes(stack["id"]) if "ray::RayTrainWorker" in " ".join(one.cmdline())]
    assert len(workers) == 2
    assert [
        check.detail for check in check_listeners(processes.stack_processes(stack["id"])) if check.exposure == Exposure.OPEN
    ] == []
    workers[0].kill()
    killed_at = epochs_of(run_id)
    assert killed_at < EPOCHS - 3
    assert second.exit_code == 2
    assert "is still running; stop it first" in second.stderr
    wait_for(lambda: epochs_of(run_id) >= killed_at + 2 or None)
    process.kill()
    process.communicate()
    assert client.get_run(run_id).info.status == "RUNNING"  # no process was left to close it
    assert epochs_of(run_id) < EPOCHS

    summary = outcome(train("--resume", run_id, cwd=job.parent))
    assert summary["run_id"] == run_id
    assert_same(undisturbed["weights"], weights(summary, tmp_path))
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert len(client.search_runs([run.info.experiment_id])) == 2
    assert {name: value for name, value in run.data.metrics.items() if name.startswith(("val/", "test/image", "threshold"))} == {
        name: value for name, value in first.data.metrics.items() if name.startswith(("val/", "test/image", "threshold"))
    }


def test_train_more_workers_than_fit_is_one_line_and_opens_no_run(undisturbed, job):
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("killed").experiment_id
    before = len(client.search_runs([experiment]))
    process = train(str(job), "--set", "train.workers=3", cwd=job.parent)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "error: train.workers: got 3 workers with 1 CPU and 0 GPU each, the cluster holds 2" in err
    assert len(client.search_runs([experiment])) == before


def test_data_from_s3_are_fetched_once_and_give_the_same_fingerprint(job, undisturbed, tmp_path):
    store = open_store("s3://adjobs/images")
    for path in sorted((job.parent / "data").rglob("*.png")):
        store.put(path, path.relative_to(job.parent / "data").as_posix())
    done = CliRunner().invoke(main, ["data", "show", "s3://adjobs/images", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["fingerprint"] == undisturbed["run"].data.tags["adjobs.data_fingerprint"]
