"""Real Ray, MLflow and S3: a search that is killed is resumed, its trials see no test split, and it leaves no resources taken.

The job that takes the resources is stopped, which a user may do, too: its run is closed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from adjobs.cli.main import main
from adjobs.config.resolve import resolve
from adjobs.errors import TrackingError
from adjobs.stack import processes
from adjobs.storage import open_store
from adjobs.tracking.client import connect
from adjobs.tracking.layout import RunRef
from adjobs.tracking.parents import ChildRun
from adjobs.tracking.runs import open_reader
from adjobs.tracking.search import StoredSearch, find_search
from adjobs.types import JobStatus
from tests.helpers.drawing import draw_folder
from tests.integration.conftest import client_of
from tests.integration.test_training import epochs_of, new_run, outcome, start, wait_for

pytestmark = pytest.mark.slow
EPOCHS = 12
CONNECT = """
import json, os, ray
ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
"""
PRINT_RESOURCES = """
import sys
from ray.util.state import list_placement_groups
for _ in sys.stdin:
    try:
        total, free = ray.cluster_resources(), ray.available_resources()
        groups = [group.state for group in list_placement_groups(filters=[("state", "!=", "REMOVED")])]
        answer = {"groups": sorted(groups), "is_free": all(free.get(k) == total[k] for k in ("CPU", "memory"))}
    except Exception as error:
        answer = {"groups": str(error), "is_free": False}
    print(json.dumps(answer), flush=True)
"""
HOLD_PROCESSOR = """
@ray.remote(num_cpus=1)
class Holder:
    def state(self): return "held"
holder = Holder.remote()
print(ray.get(holder.state.remote()), flush=True)
input()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A job with small networks, and a space for it."""
    folder = tmp_path_factory.mktemp("search")
    draw_folder(folder / "data", 30, 15)
    params = {"backbone": "resnet18", "weights": "none", "last_level": 1, "epochs": EPOCHS, "batch_size": 4, "lr": 0.001}
    document = {"method": "cdo", "data": {"uri": "data", "image_size": 64}, "params": params, "track": {"experiment": "searched"}}
    (folder / "job.yaml").write_text(yaml.safe_dump(document))
    parameters = {
        "params.gamma": {"uniform": [0, 4]},
        "params.lr": {"loguniform": [1e-4, 1e-2]},
        "data.image_size": {"choice": [32, 64]},
    }
    (folder / "space.yaml").write_text(yaml.safe_dump({"method": "cdo", "parameters": parameters}))
    return folder


@pytest.fixture(autouse=True)
def _client(stack_env) -> None:
    """Every test is a client of the stack."""


def tune(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return start("tune", *arguments, cwd=folder)


def stored_search(name: str) -> StoredSearch | None:
    try:
        return find_search(os.environ["MLFLOW_TRACKING_URI"], name)
    except TrackingError:
        return None


def ended_halfway(name: str) -> dict[str, ChildRun] | None:
    """The ended trials of a search, by number, once one has ended and another has a checkpoint."""
    search = stored_search(name)
    trials = search.trials if search else ()
    ended = {trial.tags["trial"]: trial for trial in trials if "state" in trial.tags}
    has_running = any("state" not in trial.tags and trial.values for trial in trials)
    return ended if ended and has_running else None


def kill_trial(stack_id: str) -> bool | None:
    """Kill the process of a trial that has a checkpoint; None while there is none."""
    search = stored_search("killed")
    if search is None or not any("state" not in trial.tags and trial.values for trial in search.trials):
        return None
    trials = trial_processes(stack_id)
    for process in trials:
        process.kill()
    return bool(trials) or None


def trial_processes(stack_id: str) -> list[Any]:
    return [process for process in processes.stack_processes(stack_id) if "ImplicitFunc" in " ".join(process.cmdline())]


@pytest.fixture(scope="module")
def ray_resources(stack) -> Iterator[Callable[[], dict[str, Any]]]:
    """States of the placement groups that have not been removed, and whether all resources are free.

    From a process of its own, since Ray reads the environment when it is imported; one, since it takes seconds to connect.
    """
    with client_of(stack):
        command = [sys.executable, "-c", CONNECT + PRINT_RESOURCES]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)

    def query() -> dict[str, Any]:
        process.stdin.write("\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield query
    process.kill()
    process.communicate()


@contextmanager
def killed_at_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def occupied_processor() -> Iterator[Callable[[], None]]:
    """Another job has one of the two processors, until the function is called."""
    command = [sys.executable, "-c", CONNECT + HOLD_PROCESSOR]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)

    def free() -> None:
        holder.kill()
        holder.communicate()

    try:
        assert holder.stdout.readline() == "held\n"
        yield free
    finally:
        free()


@pytest.fixture(scope="module")
def resumed(stack, folder) -> dict[str, Any]:
    """A search whose driver was killed halfway, that was resumed, and whose trials' processes were killed then."""
    with client_of(stack):
        options = ["--trials", "4", "--repeats", "1", "--grace-period", "2", "--name", "killed"]
        first = tune(folder, "job.yaml", "--space", "space.yaml", *options)
        try:
            before = wait_for(lambda: ended_halfway("killed"))
        finally:
            first.kill()
        first.communicate()
        second = tune(folder, "--resume", "killed")
        wait_for(lambda: kill_trial(stack["id"]))
        return {"before": before, "result": outcome(second), "after": stored_search("killed")}


def test_resume_ended_trials_stay_and_no_trial_is_repeated(resumed):
    after = {trial.tags["trial"]: trial for trial in resumed["after"].trials}
    repeats = [number for number, trial in after.items() if "train.seed" in json.loads(trial.tags["params"])]
    assert list(after) == ["0", "1", "2", "3", *repeats]
    assert 1 <= len(repeats) <= 3
    assert len(resumed["after"].trials) == len(after)
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    for number, trial in resumed["before"].items():
        assert after[number].run_id == trial.run_id
        assert after[number].values == trial.values
        intervals = [point.step for point in client.get_metric_history(trial.run_id, "train/loss")]
        assert len(intervals) == len(set(intervals))
    assert {trial.tags["state"] for trial in after.values()} <= {"complete", "pruned"}
    assert {trial.status for trial in after.values()} == {JobStatus.FINISHED}
    assert all(trial["seconds"] > 0 for trial in resumed["result"]["trials"])


def test_trials_see_no_test_split_and_the_best_is_tested_once(resumed):
    search = resumed["after"]
    assert not [key for trial in search.trials for key in trial.metrics if key.startswith("test/")]
    assert {"test/image_auroc", "val/image_auroc"} <= set(search.final.metrics)
    chosen = resumed["result"]["chosen"]
    assert chosen["optimism/image_auroc"] == pytest.approx(chosen["search/image_auroc"] - chosen["test/image_auroc"])
    assert resumed["result"]["final_run"] == search.final.run_id


def test_best_trial_is_the_best_on_validation_and_its_job_file_is_ready(resumed):
    result = resumed["result"]
    best, *others = result["finalists"]
    assert result["best"]["number"] == best["number"]
    assert set(best["values"]) == {"0", "1"}
    assert all(best["mean"] >= other["mean"] for other in others)
    assert result["best"]["value"] == best["values"]["0"]
    assert result["chosen"]["val/image_auroc"] == best["values"]["0"]  # trained in full with the same seed and processors
    reader = open_reader(RunRef(os.environ["MLFLOW_TRACKING_URI"], result["run_id"]))
    job = resolve(yaml.safe_load(reader.read_text("best.yaml")))
    params = result["best"]["params"]
    if params:
        assert job.params["gamma"] == params["params.gamma"]
        assert job.data.image_size == params["data.image_size"]


def test_search_run_is_finished_and_has_files_and_figures(resumed):
    reader = open_reader(RunRef(os.environ["MLFLOW_TRACKING_URI"], resumed["result"]["run_id"]))
    assert reader.info.status == JobStatus.FINISHED
    assert "figures/history.png" in reader.artifacts("figures")
    assert {"job.yaml", "space.yaml", "search.json", "best.yaml", "trials.json"} <= set(reader.artifacts())


def test_search_leaves_no_checkpoints(resumed):
    artifacts = os.environ["ADJOBS_ARTIFACTS"]
    assert open_store(f"{artifacts}/searches").list(resumed["result"]["run_id"]) == []
    for trial in resumed["after"].trials:
        assert open_store(f"{artifacts}/checkpoints").list(trial.run_id) == []


def test_resume_finished_search_is_refused(resumed):
    done = CliRunner().invoke(main, ["tune", "--resume", "killed", "--json"])
    assert done.exit_code == 2
    assert "is FINISHED, its test split was evaluated" in json.loads(done.stdout)["error"]


@pytest.fixture(scope="module")
def later_job(stack, folder, ray_resources) -> dict[str, Any]:
    """A job of two workers, stopped halfway, after a search was killed whose workers waited for resources."""
    two_workers = ["--set", "train.workers=2", "--set", "train.cpus_per_worker=1"]
    with client_of(stack), ExitStack() as processes_to_end:
        with occupied_processor() as free:
            search = tune(folder, "job.yaml", "--space", "space.yaml", "--trials", "2", "--name", "taken", *two_workers)
            processes_to_end.enter_context(killed_at_end(search))
            wait_for(lambda: ray_resources()["groups"] == ["CREATED", "PENDING"] or None)  # the trial's, and its workers'
            search.kill()
            search.communicate()
            free()
        # Ray removes the group itself if it knew of it in time; otherwise it is placed, and no process is left to use it.
        wait_for(lambda: ray_resources()["groups"] in (["CREATED"], []) or None)
        arguments = ["train", "job.yaml", *two_workers, "--set", "track.experiment=later"]
        job = processes_to_end.enter_context(killed_at_end(start(*arguments, cwd=folder)))
        run_id = wait_for(lambda: new_run(set(), "later"))
        wait_for(lambda: epochs_of(run_id) >= 1 or None)
        job.terminate()
        _, err = job.communicate(timeout=60)
        return {"run_id": run_id, "code": job.returncode, "err": err}


def test_killed_search_with_waiting_workers_takes_no_resources_from_later_jobs(later_job, ray_resources, stack):
    """It trained, as the fixture waited for; and when it is stopped, all resources are free."""
    wait_for(lambda: ray_resources()["is_free"] or None, 60)
    assert not trial_processes(stack["id"])


def test_stopped_driver_closes_its_run(later_job):
    assert later_job["code"] == 143
    assert f"stopped; resume with: adjobs train --resume {later_job['run_id']}" in later_job["err"]
    assert connect(os.environ["MLFLOW_TRACKING_URI"]).get_run(later_job["run_id"]).info.status == "KILLED"
