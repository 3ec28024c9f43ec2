"""A real queue: jobs of a dispatcher that is killed, and of a Ray head that is lost, end as if nothing had happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from adjobs.stack import lifecycle
from adjobs.stack.state import StackState
from adjobs.tracking.client import connect
from tests.helpers.cli import run_adjobs as adjobs
from tests.helpers.drawing import draw_folder

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _environment(stack_env: dict[str, str]) -> None:
    """Every test is a client of the stack."""


def wait_for(poll: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := poll():
            return value
        time.sleep(0.5)
    raise AssertionError("waited in vain")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training."""
    folder = tmp_path_factory.mktemp("queued")
    draw_folder(folder / "data", 20, 10, size=32)
    document = {
        "method": "cdo",
        "data": {"uri": str(folder / "data"), "image_size": 32},
        "params": {"backbone": "resnet18", "weights": "none", "epochs": 2, "batch_size": 4},
        "train": {"cpus_per_worker": 1},
        "track": {"experiment": "queued"},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(document))
    return folder / "job.yaml"


def test_dispatcher_killed_while_a_job_runs_each_job_runs_once_in_order(job: Path) -> None:
    home = Path(os.environ["ADJOBS_HOME"])
    (first,) = adjobs("submit", str(job))["jobs"]
    (second,) = adjobs("submit", str(job), "--set", "train.seed=1", "--after", first["id"])["jobs"]
    assert not adjobs("submit", str(job))["jobs"][0]["created"]
    wait_for(lambda: adjobs("jobs", "show", first["id"])["run_id"])
    state = StackState.read(home)
    assert state is not None
    psutil.Process(state.services["queue"].pid).send_signal(signal.SIGKILL)
    assert "does not answer" in adjobs("jobs", "list", status=2)["error"]
    lifecycle.up(home, state.port_base, cpus=2)
    ended = adjobs("jobs", "wait", first["id"], second["id"])["jobs"]
    assert [(job["state"], job["attempt"]) for job in ended] == [("done", 1), ("done", 1)]
    assert ended[0]["ended_at"] <= ended[1]["started_at"]
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("queued")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_id: run.info.status for run in runs} == {job["run_id"]: "FINISHED" for job in ended}
    assert "distil" in adjobs("jobs", "logs", first["id"])["logs"]
    assert adjobs("jobs", "logs", "-f", first["id"])["state"] == "done"


def test_job_whose_data_are_damaged_fails_once_with_the_reason(job: Path, tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "data", 12, 4, size=32)
    (data / "good" / "0000.png").write_bytes(b"not an image")
    (submitted,) = adjobs("submit", str(job), "--set", f"data.uri={data}", "--wait", status=1)["jobs"]
    failed = adjobs("jobs", "show", submitted["id"])
    assert (submitted["state"], failed["state"], failed["attempt"]) == ("failed", "failed", 1)
    assert "is not a supported image" in failed["why"]
