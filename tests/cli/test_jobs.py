"""The verbs of the queue, against a queue whose Ray head does what a test says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from adjobs.queue import access
from adjobs.queue.ray_jobs import ForeignJob, RayStatus
from adjobs.queue.states import JobState
from tests.helpers.queue import RunningQueue


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path) as queue:
        token = tmp_path / "token"
        token.write_text(queue.token())
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "ADJOBS_ARTIFACTS", "AWS_ENDPOINT_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ADJOBS_QUEUE_URL", queue.url)
        monkeypatch.setenv("ADJOBS_QUEUE_TOKEN_PATH", str(token))
        yield queue


@pytest.fixture
def job_file(queue: RunningQueue, tmp_path: Path) -> Path:
    path = tmp_path / "line 3.yaml"
    path.write_text(yaml.safe_dump(queue.document()))
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def run_json(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_submit_several_files_are_queued_in_their_order(job_file, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(job_file.read_text() + "train: {seed: 3}\n")
    first, second = run_json("submit", str(job_file), str(other))["jobs"]
    assert [(job["created"], job["position"]) for job in (first, second)] == [(True, 1), (True, 2)]
    listed = run_json("jobs", "list")["jobs"]
    assert [job["name"] for job in listed] == ["other", "line 3"]
    text = run("jobs", "list", "--state", "queued").stdout
    assert [line.split()[:3] for line in text.splitlines()[1:]] == [[second["id"], "queued", "2"], [first["id"], "queued", "1"]]


def test_submit_one_wrong_file_queues_none(job_file, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("method: cdo\ndata: {uri: nowhere}\n")
    result = run("submit", str(job_file), str(wrong))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "nowhere is neither on this machine nor on the queue's; correct the path" in result.stderr
    assert run_json("jobs", "list")["jobs"] == []


def test_submit_search_options_need_a_space(job_file):
    result = run("submit", str(job_file), "--trials", "3")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --trials, --metric and --time-budget are of a search; give --space FILE as well, or remove them\n",
    )


def test_submit_search_keeps_space_and_options(job_file, queue, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("method: cdo\nparameters: {params.gamma: {uniform: [1, 3]}}\n")
    (job,) = run_json("submit", str(job_file), "--space", str(space), "--trials", "3", "--time-budget", "1h")["jobs"]
    spec = run_json("jobs", "show", job["id"])["spec"]
    assert (spec["verb"], spec["options"]) == ("tune", {"trials": 3, "time_budget_s": 3600.0})
    assert spec["space"]["parameters"] == {"params.gamma": {"uniform": [1, 3]}}


def test_show_why_priority_stop_resume_and_prune(job_file):
    (job,) = run_json("submit", str(job_file))["jobs"]
    assert "submitted by ann" in run("jobs", "show", job["id"]).stdout
    assert run("jobs", "why", job["id"][:4]).stdout.startswith("queued: the next one; a slot is free")
    assert run("jobs", "priority", job["id"], "7").stdout == f"job {job['id']} has priority 7\n"
    assert run("jobs", "stop", job["id"]).stdout == f"job {job['id']}: stopped\n"
    assert run("jobs", "stop", job["id"]).exit_code == 2
    assert run("jobs", "resume", job["id"]).stdout == f"job {job['id']}: queued\n"
    run("jobs", "stop", job["id"])
    assert run("jobs", "prune", "--days", "0").stdout == "forgot 1 jobs\n"
    assert run("jobs", "list").stdout == "no jobs; submit one with: adjobs submit job.yaml\n"


@pytest.mark.parametrize(("state", "status"), [(JobState.DONE, 0), (JobState.FAILED, 1), (JobState.STOPPED, 1)])
def test_wait_exit_status_says_whether_all_are_done(job_file, queue, state, status):
    (job,) = run_json("submit", str(job_file))["jobs"]
    claimed = queue.store.claim("one", 1, 30)
    queue.store.move(claimed, state, "ended")
    result = run("jobs", "wait", job["id"])
    assert result.exit_code == status
    assert f"job {job['id']}: {state} (ended)" in result.stderr


def test_logs_follow_prints_all_of_a_log_and_the_end(job_file, queue):
    (job,) = run_json("submit", str(job_file))["jobs"]
    claimed = queue.store.claim("one", 1, 30)
    queue.cluster.log = "epoch 1\nepoch 2\n"
    assert run("jobs", "logs", job["id"]).stdout == "epoch 1\nepoch 2\n"
    queue.store.move(claimed, JobState.DONE, "succeeded")
    result = run("jobs", "logs", "-f", job["id"])
    assert (result.stderr, result.stdout) == ("epoch 1\nepoch 2\n", f"job {job['id']} is done\n")


def test_unknown_job_is_one_line_for_every_verb(queue):
    verbs = (["show"], ["why"], ["logs"], ["stop"], ["resume"], ["wait"], ["priority"])
    for verb in verbs:
        arguments = [*verb, "nope", *(["3"] if verb == ["priority"] else [])]
        result = run("jobs", *arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), verb
        assert "no such job" in result.stderr


def test_queue_that_is_not_known_says_how_to_start_one(queue, monkeypatch):
    monkeypatch.delenv("ADJOBS_QUEUE_URL")
    result = run("jobs", "list")
    assert (result.exit_code, "start one with 'adjobs up'" in result.stderr) == (2, True)


def test_token_made_listed_and_revoked(queue, monkeypatch, tmp_path):
    monkeypatch.setattr(access, "TOKEN_SECONDS", 0)
    monkeypatch.setenv("ADJOBS_QUEUE_DATABASE", f"sqlite:///{tmp_path / 'queue.db'}")
    token = run("token", "create", "bob", "--role", "viewer").stdout.strip()
    (tmp_path / "token").write_text(token)
    assert run("jobs", "list").exit_code == 0
    assert f"{token[:10]}  bob   viewer" in run("token", "list").stdout
    revoked = run("token", "revoke", token[:10])
    assert revoked.exit_code == 0
    assert f"it is also in {tmp_path / 'token'}: delete that file" in revoked.stdout
    assert "unknown or revoked" in run("jobs", "list").stderr


def test_list_all_shows_jobs_of_ray_and_a_silent_head_only_leaves_them_out(job_file, queue):
    (job,) = run_json("submit", str(job_file))["jobs"]
    queue.cluster.foreign = [ForeignJob("raysubmit_1", RayStatus.RUNNING, "python train.py", "runs\nwell", 1000.0, None)]
    own, foreign = run_json("jobs", "list", "--all")["jobs"]
    expected = {"id": "raysubmit_1", "foreign": True, "state": "running", "name": "python train.py", "why": "runs well"}
    assert (own["id"], expected.items() <= foreign.items()) == (job["id"], True)
    assert "raysubmit_1" in run("jobs", "list", "--all").stdout
    assert len(run_json("jobs", "list", "--all", "--state", "done")["jobs"]) == 0
    assert len(run_json("jobs", "list")["jobs"]) == 1
    queue.cluster.is_down = True
    result = run("jobs", "list", "--all")
    assert (result.exit_code, job["id"] in result.stdout) == (0, True)
    assert result.stderr.startswith("warning: jobs that the queue did not submit are missing: Ray at http://head")


def test_stop_several_jobs_one_unknown_stops_the_others_and_says_so(job_file):
    (job,) = run_json("submit", str(job_file))["jobs"]
    result = run("jobs", "stop", "ffff", job["id"], job["id"], "--json")
    assert (result.exit_code, result.stderr.count("error: ")) == (2, 1)
    changed = json.loads(result.stdout)
    assert [stopped["state"] for stopped in changed["jobs"]] == ["stopped"]
    assert "no such job" in changed["errors"][0]
