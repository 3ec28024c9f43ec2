"""A training that is stopped closes its run and prints the command that resumes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.drawing import draw_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SECONDS = 280  # Ray takes its time on a busy machine
SMALL = {
    "params.backbone": "resnet18",
    "params.weights": "none",
    "params.epochs": 1000,
    "params.batch_size": 4,
    "data.image_size": 32,
    "train.cpus_per_worker": 1,
    "track": "none",
}


def start_training(root: Path, *words: str) -> subprocess.Popen[str]:
    """A training that would go on for very long."""
    draw_folder(root / "data", 20, 10, size=32)
    settings = [item for key, value in SMALL.items() for item in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "adjobs", "train", "--method", "cdo", "--data", str(root / "data"), *settings, *words]
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "ADJOBS", "RAY", "AWS"))}
    environment = bare | {"ADJOBS_HOME": str(root / "home")}
    # A group of processes of its own, all of which get a Ctrl-C, as from a terminal.
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_first_interval(root: Path, process: subprocess.Popen[str]) -> Path:
    """The folder of the run."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for history in (root / "home" / "runs").glob("*/history.jsonl"):
            return history.parent
        time.sleep(0.1)
    raise AssertionError(f"no interval was recorded, exit status {process.poll()}")


def send(process: subprocess.Popen[str], number: signal.Signals) -> None:
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


@pytest.mark.parametrize(
    ("words", "number"),
    [(("--local",), signal.SIGTERM), ((), signal.SIGTERM), ((), signal.SIGINT)],
    ids=["local", "ray", "ray-ctrl-c"],
)
def test_signal_during_training_closes_the_run(tmp_path, words, number):
    process = start_training(tmp_path, *words)
    try:
        run = wait_for_first_interval(tmp_path, process)
        send(process, number)
        _, stderr = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    message = f"stopped; resume with: adjobs train --resume {run.name}"
    state = json.loads((run / "run.json").read_text())
    assert (process.returncode, state["status"], state["tags"]["error"]) == (128 + number, "KILLED", message)
    assert f"started as {run.name} in {run}; if it is interrupted, resume it with" in stderr
    assert message in stderr
