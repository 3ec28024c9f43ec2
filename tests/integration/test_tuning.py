"""Real Ray, MLflow and S3: a search that is killed goes on, its trials see no test part, and it leaves no room taken.

The job that takes the room is stopped, which a user may do, too: its run is closed.
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

from adjobs.config.resolve import resolve
from adjobs.errors import TrackingError
from adjobs.stack import processes
from adjobs.storage import open_store
from adjobs.tracking import search
from adjobs.tracking.client import connect
from adjobs.tracking.run import read_text
from tests.helpers.drawing import draw_folder
from tests.integration.conftest import client_of
from tests.integration.test_training import epochs_of, new_run, outcome, start, wait_for

pytestmark = pytest.mark.slow
EPOCHS = 12
CONNECT = """
import json, os, ray
ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
"""
SAY = """
import sys
from ray.util.state import list_placement_groups
for _ in sys.stdin:
    try:
        whole, free = ray.cluster_resources(), ray.available_resources()
        groups = [group.state for group in list_placement_groups(filters=[("state", "!=", "REMOVED")])]
        said = {"groups": sorted(groups), "free": all(free.get(k) == whole[k] for k in ("CPU", "memory"))}
    except Exception as error:
        said = {"groups": str(error), "free": False}
    print(json.dumps(said), flush=True)
"""
HOLD = """
@ray.remote(num_cpus=1)
class Holder:
    def held(self): return "held"
holder = Holder.remote()
print(ray.get(holder.held.remote()), flush=True)
input()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A job with small networks, and what varies of it."""
    folder = tmp_path_factory.mktemp("search")
    draw_folder(folder / "data", 30, 15)
    params = {"backbone": "resnet18", "weights": "none", "last_level": 1, "epochs": EPOCHS, "batch_size": 4, "lr": 0.001}
    document = {"method": "cdo", "data": {"uri": "data", "image_size": 64}, "params": params, "track": {"experiment": "searched"}}
    (folder / "job.yaml").write_text(yaml.safe_dump(document))
    axes = {
        "params.gamma": {"uniform": [0, 4]},
        "params.lr": {"loguniform": [1e-4, 1e-2]},
        "data.image_size": {"choice": [32, 64]},
    }
    (folder / "space.yaml").write_text(yaml.safe_dump({"method": "cdo", "axes": axes}))
    return folder


@pytest.fixture(autouse=True)
def _client(stack_env) -> None:
    """Every test is a client of the stack."""


def tune(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return start("tune", *arguments, cwd=place)


def found(name: str) -> search.StoredSearch | None:
    try:
        return search.find_search(os.environ["MLFLOW_TRACKING_URI"], name)
    except TrackingError:
        return None


def half_way(name: str) -> dict[str, Any] | None:
    """The ended trials of a search, by number, once one has ended and another has a checkpoint."""
    stored = found(name)
    trials = stored.trials if stored else []
    ended = [trial for trial in trials if "outcome" in trial.tags]
    under_way = [t for t in trials if "outcome" not in t.tags and t.values]
    return {trial.tags["trial"]: trial for trial in ended} if ended and under_way else None


def kill_a_trial(stack_id: str) -> bool | None:
    """Kill the process of a trial that has a checkpoint; None while there is none."""
    stored = found("killed")
    if stored is None or not any("outcome" not in trial.tags and trial.values for trial in stored.trials):
        return None
    trials = [one for one in processes.stack_processes(stack_id) if "ImplicitFunc" in " ".join(one.cmdline())]
    for one in trials:
        one.kill()
    return bool(trials) or None


@pytest.fixture(scope="module")
def ray_says(stack) -> Iterator[Callable[[], dict[str, Any]]]:
    """States of the placement groups that have not been removed, and whether all room is free.

    Asked by a process of its own, since Ray reads the environment when it is imported; one, since it takes seconds to connect.
    """
    with client_of(stack):
        command = [sys.executable, "-c", CONNECT + SAY]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)

    def say() -> dict[str, Any]:
        process.stdin.write("\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield say
    process.kill()
    process.communicate()


@contextmanager
def killed_at_the_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def holding_a_processor() -> Iterator[Callable[[], None]]:
    """Another job has one of the two processors, until the function is called."""
    holder = subprocess.Popen([sys.executable, "-c", CONNECT + HOLD], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)

    def free() -> None:
        holder.kill()
        holder.communicate()

    try:
        assert holder.stdout.readline() == "held\n"
        yield free
    finally:
        free()


@pytest.fixture(scope="module")
def gone_on(stack, place) -> dict[str, Any]:
    """A search whose driver was killed in the middle, that went on, and whose trials' processes were killed then."""
    with client_of(stack):
        first = tune(place, "job.yaml", "--space", "space.yaml", "--trials", "4", "--grace", "2", "--name", "killed")
        try:
            before = wait_for(lambda: half_way("killed"))
        finally:
            first.kill()
        first.communicate()
        second = tune(place, "--resume", "killed")
        wait_for(lambda: kill_a_trial(stack["id"]))
        return {"before": before, "summary": outcome(second), "after": found("killed")}


def test_what_had_finished_is_not_done_again_and_no_trial_is_there_twice(gone_on):
    after = {trial.tags["trial"]: trial for trial in gone_on["after"].trials}
    assert list(after) == ["0", "1", "2", "3"]
    assert len(gone_on["after"].trials) == 4
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    for number, trial in gone_on["before"].items():
        assert after[number].run_id == trial.run_id
        assert after[number].values == trial.values
        rounds = [point.step for point in client.get_metric_history(trial.run_id, "train/loss")]
        assert len(rounds) == len(set(rounds))
    assert {trial.tags["outcome"] for trial in after.values()} <= {"finished", "stopped early"}
    assert {trial.status for trial in after.values()} == {"FINISHED"}
    assert all(trial["seconds"] > 0 for trial in gone_on["summary"]["trials"])


def test_trials_see_no_test_part_and_the_choice_is_tested_once(gone_on):
    stored = gone_on["after"]
    assert not [key for trial in stored.trials for key in trial.metrics if key.startswith("test/")]
    assert {"test/image_auroc", "val/image_auroc"} <= set(stored.final.metrics)
    chosen = gone_on["summary"]["chosen"]
    assert chosen["optimism/image_auroc"] == pytest.approx(chosen["search/image_auroc"] - chosen["test/image_auroc"])
    assert gone_on["summary"]["final_run"] == stored.final.run_id


def test_the_best_is_the_best_on_validation_and_its_job_file_is_ready(gone_on):
    summary = gone_on["summary"]
    finished = [t for t in summary["trials"] if t["outcome"] == "finished"]
    best = max(finished, key=lambda trial: trial["values"]["image_auroc"])
    assert summary["best"]["value"] == best["values"]["image_auroc"]
    uri = os.environ["MLFLOW_TRACKING_URI"]
    job = resolve(yaml.safe_load(read_text(connect(uri), uri, summary["run_id"], "best.yaml")))
    if summary["best"]["point"]:
        assert job.params["gamma"] == summary["best"]["point"]["params.gamma"]
        assert job.data.image_size == summary["best"]["point"]["data.image_size"]


def test_the_parent_run_is_closed_and_holds_the_pictures(gone_on):
    client = connect(os.environ["MLFLOW_TRACKING_URI"])
    run_id = gone_on["summary"]["run_id"]
    assert client.get_run(run_id).info.status == "FINISHED"
    names = {Path(entry.path).name for entry in client.list_artifacts(run_id, "figures")}
    assert "history.png" in names
    kept = {entry.path for entry in client.list_artifacts(run_id)}
    assert {"job.yaml", "space.yaml", "search.json", "best.yaml", "trials.json"} <= kept


def test_nothing_is_left_of_what_only_the_search_needed(gone_on):
    home = os.environ["ADJOBS_ARTIFACTS"]
    assert open_store(f"{home}/searches").list(gone_on["summary"]["run_id"]) == []
    for trial in gone_on["after"].trials:
        assert open_store(f"{home}/checkpoints").list(trial.run_id) == []


def test_a_finished_search_does_not_go_on(gone_on, place):
    process = tune(place, "--resume", "killed")
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 2
    assert "is FINISHED, its test part was looked at" in json.loads(out)["error"]


@pytest.fixture(scope="module")
def later_job(stack, place, ray_says) -> dict[str, Any]:
    """What a job of two workers leaves that is stopped in the middle, after a search was killed whose workers waited for room."""
    several = ["--set", "train.workers=2", "--set", "train.cpus_per_worker=1"]
    with client_of(stack), ExitStack() as started:
        with holding_a_processor() as free:
            first = started.enter_context(
                killed_at_the_end(tune(place, "job.yaml", "--space", "space.yaml", "--trials", "2", "--name", "taken", *several))
            )
            wait_for(lambda: ray_says()["groups"] == ["CREATED", "PENDING"] or None)  # the trial's, and that of its workers
            first.kill()
            first.communicate()
            free()
        # Ray's own cleaner, where it came to know the group in time, removes it; else it gets room that nobody is left to use.
        wait_for(lambda: ray_says()["groups"] in (["CREATED"], []) or None)
        later = ["train", "job.yaml", *several, "--set", "track.experiment=later"]
        job = started.enter_context(killed_at_the_end(start(*later, cwd=place)))
        run_id = wait_for(lambda: new_run(set(), "later"))
        wait_for(lambda: epochs_of(run_id) >= 1 or None)
        job.terminate()
        _, err = job.communicate(timeout=60)
        return {"run_id": run_id, "code": job.returncode, "err": err}


def test_a_killed_search_whose_workers_waited_for_room_takes_none_from_later_jobs(later_job, ray_says, stack):
    """It trained, as the fixture waited for; and when it is stopped, all room is free."""
    wait_for(lambda: ray_says()["free"] or None, 60)
    assert not [one for one in processes.stack_processes(stack["id"]) if "ImplicitFunc" in " ".join(one.cmdline())]


def test_a_stopped_driver_closes_its_run(later_job):
    assert later_job["code"] == 143
    assert f"stopped; go on with: adjobs train --resume {later_job['run_id']}" in later_job["err"]
    assert connect(os.environ["MLFLOW_TRACKING_URI"]).get_run(later_job["run_id"]).info.status == "KILLED"
