"""Faults of queued jobs on the real stack, where reality could differ from what the tests of the queue assume."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from adjobs.config.settings import Settings
from adjobs.queue.client import QueueClient
from adjobs.queue.run_closer import GRACE_SECONDS, RunCloser
from adjobs.queue.states import JobState
from adjobs.stack import processes
from adjobs.storage import open_store
from adjobs.tracking.client import connect
from tests.helpers.drawing import draw_folder
from tests.helpers.queue import Setup
from tests.integration.test_queue import wait_for

pytestmark = pytest.mark.slow

TIMED = ("ms_per_image", "images_per_s", "seconds", "memory")


@pytest.fixture(autouse=True)
def _environment(stack_env: dict[str, str]) -> None:
    """Every test is a client of the stack."""


@pytest.fixture
def client() -> QueueClient:
    return QueueClient.from_settings(Settings.from_env(os.environ))


def submit(client: QueueClient, data: Path) -> str:
    """A training that stores a checkpoint every three steps."""
    params = {"backbone": "resnet18", "weights": "none", "epochs": 8, "batch_size": 4}
    document = {
        "method": "cdo",
        "data": {"uri": str(data), "image_size": 32},
        "params": params,
        "train": {"cpus_per_worker": 1},
        "track": {"experiment": "faults"},
    }
    (job,) = client.submit([{"verb": "train", "name": "job", "document": document, "key": secrets.token_hex(16)}])
    return str(job["id"])


def drivers(stack: dict[str, Any], job: str) -> Iterator[psutil.Process]:
    for process in processes.stack_processes(stack["id"]):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[1:4] == ["-m", "adjobs.cli.driver", job]:
                yield process


def checkpointed(client: QueueClient, job: str) -> Callable[[], bool]:
    def has_checkpoint() -> bool:
        run = client.get(job)["run_id"]
        return bool(run and open_store(os.environ["ADJOBS_ARTIFACTS"]).list(f"checkpoints/{run}"))

    return has_checkpoint


def metrics(run_id: str) -> dict[str, float]:
    values = connect(os.environ["MLFLOW_TRACKING_URI"]).get_run(run_id).data.metrics
    return {name: value for name, value in values.items() if not any(word in name for word in TIMED)}


def test_driver_killed_job_is_resumed_to_the_result_of_an_undisturbed_one(stack, client, tmp_path):
    data = draw_folder(tmp_path / "data", 20, 10, size=32)
    killed = submit(client, data)
    wait_for(checkpointed(client, killed))
    (driver,) = drivers(stack, killed)
    driver.send_signal(signal.SIGKILL)
    undisturbed = submit(client, data)
    ended = [
        wait_for(lambda job=job: (shown := client.get(job))["state"] in ("done", "failed") and shown, 400)
        for job in (killed, undisturbed)
    ]
    assert [(job["state"], job["attempt"]) for job in ended] == [("done", 2), ("done", 1)]
    assert metrics(ended[0]["run_id"]) == metrics(ended[1]["run_id"])
    assert not [*drivers(stack, killed), *drivers(stack, undisturbed)]
    assert "attempt 1 of 3 was lost" in ended[0]["history"][-4]["reason"]


def test_run_closer_ends_the_run_of_a_lost_driver_at_the_real_mlflow(tmp_path):
    setup = Setup(tmp_path)
    job = setup.submit("a")
    claimed = setup.store.claim("one", 1, 60)
    assert claimed is not None
    setup.store.move(claimed, JobState.FAILED, "node lost")
    setup.now += GRACE_SECONDS + 1
    mlflow = connect(os.environ["MLFLOW_TRACKING_URI"])
    experiment = mlflow.create_experiment(tmp_path.name)
    run = mlflow.create_run(experiment, tags={"adjobs.ray_job": f"{job}-1"})
    other = mlflow.create_run(experiment, tags={"adjobs.ray_job": "none"})
    closer = RunCloser(os.environ["MLFLOW_TRACKING_URI"], setup.store, os.environ, lambda: setup.now)
    assert (closer.step(), closer.step()) == (1, 0)
    ended = mlflow.get_run(run.info.run_id)
    assert (ended.info.status, "node lost" in ended.data.tags["adjobs.error"]) == ("FAILED", True)
    assert mlflow.get_run(other.info.run_id).info.status == "RUNNING"
    mlflow.set_terminated(other.info.run_id)
