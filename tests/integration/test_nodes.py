"""Two nodes: a training spreads over both, and goes on when one is lost, with a replacement or with fewer workers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from adjobs.stack import processes
from adjobs.tracking.client import connect
from tests.helpers.drawing import draw_folder
from tests.helpers.ray_node import joined_node, kill_node
from tests.integration.conftest import client_of
from tests.integration.test_training import assert_same, epochs_of, new_run, outcome, start, train, wait_for, weights

pytestmark = pytest.mark.slow
EPOCHS = 30
EXPERIMENT = "nodes"
# Takes one node's CPUs until its standard input ends.
HOLD = """
import ray, sys
ray.init(logging_level="ERROR", log_to_driver=False)
group = ray.util.placement_group([{"CPU": 2}])
assert group.wait(120)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _client(stack_env: dict[str, str]) -> None:
    """Every test is a client of the stack."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job whose two workers need a node each; it draws nothing at random, which would differ between workers."""
    folder = tmp_path_factory.mktemp("nodes")
    draw_folder(folder / "data", 16, 6, size=32)
    params = {"backbone": "resnet18", "weights": "none", "last_level": 1, "epochs": EPOCHS, "batch_size": 4, "rectangles": 0}
    document = {
        "method": "cdo",
        "data": {"uri": str(folder / "data"), "image_size": 32},
        "params": params,
        "train": {"workers": 2, "cpus_per_worker": 2},
        "track": {"experiment": EXPERIMENT},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(document))
    return folder / "job.yaml"


@pytest.fixture(scope="module")
def alone(stack: dict[str, Any], job: Path) -> dict[str, Any]:
    """What two workers on one node make of the job."""
    with client_of(stack):
        return outcome(train(str(job), "--set", "train.cpus_per_worker=1", cwd=job.parent))


def losses(run_id: str) -> np.ndarray:
    """Of each epoch, as it was recorded last."""
    history = connect(os.environ["MLFLOW_TRACKING_URI"]).get_metric_history(run_id, "train/loss")
    last = {metric.step: metric.value for metric in sorted(history, key=lambda metric: metric.timestamp)}
    return np.array([last[step] for step in sorted(last)])


def train_workers(stack: dict[str, Any], node: psutil.Process | None = None) -> int:
    """Number of workers of a training, all of them or those of a node."""
    alive = processes.stack_processes(stack["id"])
    own = None if node is None else {one.pid for one in node.children(recursive=True)}
    return sum("ray::RayTrainWorker" in title(one) for one in alive if own is None or one.pid in own)


def title(process: psutil.Process) -> str:
    """Of a process; nothing of one that has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def held_cpus() -> Iterator[None]:
    """Take the CPUs of one node."""
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()


def test_elastic_training_grows_into_a_node_that_is_free_and_shrinks_when_it_is_lost(stack, alone, job):
    known = {alone["run_id"]}
    with joined_node(stack, cpus=2) as node:
        with held_cpus():
            process = train(str(job), "--set", "train.workers=[1, 2]", cwd=job.parent)
            run = wait_for(lambda: new_run(known, EXPERIMENT))
            wait_for(lambda: epochs_of(run) or None)
            assert train_workers(stack) == 1
        wait_for(lambda: train_workers(stack) == 2 or None)
        grown_at = epochs_of(run)
        wait_for(lambda: epochs_of(run) > grown_at + 1 or None)
        kill_node(node)
        killed_at = epochs_of(run)
        _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err[-2000:]
    assert grown_at < killed_at < EPOCHS
    assert re.findall(r"training with (\d) of at most 2 workers", err) == ["1", "2", "1"]
    assert err.count("a worker was lost") == 1
    assert connect(os.environ["MLFLOW_TRACKING_URI"]).get_run(run).info.status == "FINISHED"
    one, other = losses(alone["run_id"]), losses(run)
    np.testing.assert_allclose(other, one, rtol=1e-2)


def test_queued_training_over_two_nodes_one_of_which_is_replaced_ends_as_on_one_node(stack, alone, job, tmp_path):
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    known = {run.info.run_id for run in client.search_runs([experiment])}
    with joined_node(stack, cpus=2) as node:
        submitted = start("submit", str(job), cwd=job.parent)
        (queued,) = outcome(submitted)["jobs"]
        run = wait_for(lambda: new_run(known, EXPERIMENT))
        wait_for(lambda: epochs_of(run) >= 2 or None)
        assert train_workers(stack, node) == 1
        kill_node(node)
        assert epochs_of(run) < EPOCHS
    with joined_node(stack, cpus=2):
        (ended,) = outcome(start("jobs", "wait", queued["id"], cwd=job.parent))["jobs"]
    assert (ended["state"], ended["attempt"], ended["run_id"]) == ("done", 1, run)
    assert_same(weights(alone, tmp_path / "alone"), weights({**alone, "model": run}, tmp_path / "replaced"))
    runs = {one.info.run_id: one.info.status for one in client.search_runs([experiment])}
    assert {key: status for key, status in runs.items() if key not in known} == {run: "FINISHED"}
