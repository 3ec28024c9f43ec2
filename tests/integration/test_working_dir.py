"""Working directories and jobs of others on a real cluster, whose queue is running."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.cli import run_adjobs
from tests.helpers.drawing import draw_folder
from tests.helpers.plugins import write_project

pytestmark = pytest.mark.slow

READ_REFERENCE = """def build(config, *, image_size, seed):
    from pathlib import Path

    assert Path(config.reference).read_text() == "read by driver and workers", Path.cwd()
"""


@pytest.fixture(autouse=True)
def _environment(stack_env: dict[str, str]) -> None:
    """Every test is a client of the stack."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a method, a file that its parameters name, images, and a job file."""
    root = tmp_path / "project"
    root.mkdir()
    write_project(root, method="gloss", package="glossy_cluster")
    model = root / "glossy_cluster" / "brightness" / "model.py"
    model.write_text(model.read_text().replace("def build(config, *, image_size, seed):\n", READ_REFERENCE))
    (root / "notes").mkdir()
    (root / "notes" / "reference.txt").write_text("read by driver and workers")
    draw_folder(root / "images", 12, 6, size=32)
    write_job(root, method="gloss", params={"reference": "notes/reference.txt"})
    return root


def write_job(root: Path, **values: Any) -> None:
    document = {
        "data": {"uri": str(root / "images"), "image_size": 32},
        "train": {"cpus_per_worker": 1},
        "track": {"experiment": "working directory"},
    }
    (root / "job.yaml").write_text(yaml.safe_dump(document | values))


def ray_job_submit(root: Path, identifier: str, *command: str) -> None:
    arguments = ["job", "submit", "--no-wait", "--submission-id", identifier, "--working-dir", str(root), "--", *command]
    subprocess.run([Path(sys.executable).with_name("ray"), *arguments], check=True, timeout=120, capture_output=True)


def foreign_jobs() -> dict[str, dict[str, Any]]:
    return {job["id"]: job for job in run_adjobs("jobs", "list", "--all")["jobs"] if job.get("foreign")}


def test_submit_method_and_files_of_a_working_directory_reach_driver_and_workers(project: Path) -> None:
    result = run_adjobs("submit", str(project / "job.yaml"), "--working-dir", str(project), "--wait")
    (job,) = result["jobs"]
    assert job["state"] == "done", run_adjobs("jobs", "logs", job["id"])["logs"]
    assert not result["preflight"]["warnings"]
    (again,) = run_adjobs("submit", str(project / "job.yaml"), "--working-dir", str(project), "--dry-run")["preflight"]["jobs"]
    assert again["estimate"]["jobs"] == 1
    assert again["estimate"]["memory_mib"] > 100


def test_ray_job_submit_beside_the_queue_trains_and_submits(project: Path) -> None:
    params = {"backbone": "resnet18", "weights": "none", "epochs": 1, "batch_size": 4}
    write_job(project, method="cdo", params=params)
    ray_job_submit(project, "trains", "python", "-m", "adjobs", "train", "job.yaml")
    ray_job_submit(project, "submits", "python", "-m", "adjobs", "submit", "job.yaml", "--wait")
    deadline = time.monotonic() + 400
    jobs = foreign_jobs()
    while any(job["state"] in ("starting", "running") for job in jobs.values()):
        assert time.monotonic() < deadline, jobs
        time.sleep(1)
        jobs = foreign_jobs()
    assert {name: jobs[name]["state"] for name in ("trains", "submits")} == {"trains": "done", "submits": "done"}
    assert all(job["reason"] for job in jobs.values())
    (queued,) = [job for job in run_adjobs("jobs", "list")["jobs"] if job["data"] == str(project / "images")]
    assert (queued["state"], queued["method"]) == ("done", "cdo")
