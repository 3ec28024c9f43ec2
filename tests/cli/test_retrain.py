"""``adjobs retrain``, with passes that a test invents, and schedules in a queue that runs here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import adjobs.retraining
from adjobs.cli.main import main
from adjobs.queue.states import JobState
from adjobs.retraining.result import RetrainResult, RetrainState, TakenIn
from tests.helpers.queue import RunningQueue
from tests.helpers.schedules import empty_dataset, retraining


@pytest.fixture
def file(tmp_path: Path) -> Path:
    empty_dataset(tmp_path / "line-3")
    path = tmp_path / "retrain.yaml"
    path.write_text(yaml.safe_dump({**retraining(Path("line-3")), "job": "job.yaml"}))
    (tmp_path / "job.yaml").write_text("method: cdo\n")
    return path


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path) as queue:
        (tmp_path / "token").write_text(queue.token())
        monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ADJOBS_QUEUE_URL", queue.url)
        monkeypatch.setenv("ADJOBS_QUEUE_TOKEN_PATH", str(tmp_path / "token"))
        yield queue


@pytest.fixture
def passes(isolated_home: None, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The calls of what does a pass."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def record(name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> RetrainResult:
            calls.append((name, options))
            taken_in = TakenIn(added=3)
            return RetrainResult("line-3", RetrainState.PROMOTED, "4 is in force", 2, (), taken_in, 7, "9a", 4, 3)

        return call

    names = ("run_retraining", "preview_retraining", "abandon")
    invented = SimpleNamespace(**{name: record(name) for name in names})
    monkeypatch.setitem(sys.modules, "adjobs.retraining.run", invented)
    monkeypatch.setattr(adjobs.retraining, "run", invented, raising=False)  # it may have been imported before
    return calls


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["retrain", *map(str, arguments)], catch_exceptions=False)


def run_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_file_without_a_command_is_a_pass(file, passes):
    result = run(file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "model     line-3",
        "state     promoted",
        "          4 is in force",
        "inbox     3 images added, 0 updated, 0 known",
        "version   line-3/4, run 9a",
    ]
    assert run_json("--local", "--force", file)["version"] == 4
    run("pass", file, "--dry-run")
    run(file, "--abandon", "wrong labels")
    expected = [("run_retraining", {"backend": "ray", "force": False}), ("run_retraining", {"backend": "local", "force": True})]
    assert passes == [*expected, ("preview_retraining", {}), ("abandon", {})]


def test_file_that_is_none_and_options_that_exclude_each_other_are_one_line(file, passes):
    result = run("nightly")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "retraining 'nightly': cannot be read" in result.stderr
    result = run(file, "--dry-run", "--force")
    assert "--abandon, --dry-run and --force: got several; give one of them" in result.stderr
    assert "Missing argument 'RETRAIN_FILE'; see '" in run("--force").stderr
    assert passes == []


def test_mistyped_command_suggests_the_right_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("pasue", "line-3")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: 'pasue' is neither a command nor a file; available: list, pass, pause, ")
    assert "did you mean 'pause'" in result.stderr
    (tmp_path / "pasue").write_text("model: line-3\n")
    assert run("pasue").stderr.startswith("error: pasue: dataset: missing")


def test_schedule_again_replaces_and_says_so(file, queue):
    first = run("schedule", file, "--cron", "0 2 * * *", "--time-zone", "Asia/Tokyo")
    assert first.stdout.startswith(
        "schedule line-3 is added: it retrains line-3\ncron      0 2 * * *, time zone Asia/Tokyo\nnext      "
    )
    assert " 02:00 JST" in first.stdout
    again = run("schedule", file, "--cron", "0  3 * * *")
    assert "schedule line-3 is replaced: it retrains line-3\ncron      0 3 * * *, time zone" in again.stdout
    assert "(the time zone of this machine)" in again.stdout
    run("schedule", file, "--cron", "0 4 * * *", "--name", "weekly")
    listed = run_json("list")["schedules"]
    assert [(schedule["name"], schedule["cron"]) for schedule in listed] == [("line-3", "0 3 * * *"), ("weekly", "0 4 * * *")]


def test_schedule_sends_what_the_file_names_with_absolute_paths(file, queue, tmp_path):
    run_json("schedule", file, "--cron", "0 2 * * *")
    job = run_json("run", "line-3")
    document = queue.store.get(job["id"]).spec["document"]
    assert (document["dataset"], document["job"]) == (str(tmp_path / "line-3"), {"method": "cdo"})


def test_list_shows_next_time_last_job_and_pauses(file, queue):
    assert run("list").stdout.startswith("no schedules; add one with: adjobs retrain schedule retrain.yaml --cron")
    run("schedule", file, "--cron", "30 2 * * *", "--time-zone", "Asia/Tokyo")
    job = run("run", "line-3").stdout.split()[1]
    queue.store.move(queue.store.claim("one", 1, 30), JobState.DONE, "not due: 3 new labels of 20")
    header, row = run("list").stdout.splitlines()
    assert header.split()[:3] == ["schedule", "model", "cron"]
    assert row.startswith("line-3    line-3  30 2 * * *  Asia/Tokyo")
    assert " 02:30 JST" in row
    assert f"{job}  done   started by ann" in row
    assert run("pause", "line-3").stdout == "schedule line-3 is paused; go on with: adjobs retrain resume line-3\n"
    assert "Asia/Tokyo  paused" in run("list").stdout
    assert " 02:30 JST" in run("resume", "line-3").stdout
    assert run("remove", "line-3").stdout == "schedule line-3 is removed\n"
    assert run_json("list") == {"schedules": []}


def test_run_while_the_pass_before_lives_submits_no_second(file, queue):
    run("schedule", file, "--cron", "30 2 * * *")
    first, again = run("run", "line-3").stdout, run("run", "line-3").stdout
    assert "is queued\n\nfollow it with: adjobs jobs logs -f" in first
    assert "has not ended; there is no second pass of its model" in again


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cron", "0 2 * *"], "error: cron '0 2 * *': got 4 fields; must be five"),
        (["--cron", "0 2 * * *", "--time-zone", "Europe/Berln"], "error: unknown time zone 'Europe/Berln'; did you mean"),
        (["--cron", "0 2 * * *", "--name", "a/b"], "error: --name 'a/b': allowed are up to 100 letters, digits and . _ -"),
        ([], "error: Missing option '--cron'"),
    ],
)
def test_schedule_what_is_wrong_is_one_line(file, queue, arguments, message):
    result = run("schedule", file, *arguments)
    assert (result.exit_code, result.stderr.count("\n"), result.stderr[: len(message)]) == (2, 1, message)


@pytest.mark.parametrize("command", ["pause", "resume", "remove", "run"])
def test_unknown_schedule_is_one_line_for_every_command(queue, command):
    result = run(command, "weekly")
    assert (result.exit_code, result.stderr.count("\n"), "no such schedule" in result.stderr) == (2, 1, True)


def test_submit_file_is_a_retraining_and_one_of_its_model(file, queue):
    def submit(*options: object) -> Result:
        return CliRunner().invoke(main, ["submit", str(file), *map(str, options)], catch_exceptions=False)

    (job,) = json.loads(submit("--priority", 3, "--json").stdout)["jobs"]
    queued = queue.store.get(job["id"])
    assert (queued.verb, queued.priority, queued.name) == ("retrain", 3, "retrain")
    assert "was there already" in submit().stdout
    for option in (["--force"], ["--set", "model=x"], ["--space", file], ["--working-dir", file.parent]):
        result = submit(*option)
        assert (result.exit_code, "a retraining takes no --space" in result.stderr) == (2, True), option


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("line-3", "adjobs dataset create s3://bucket/prefix --from {folder}"),
        ("inbox", "aws s3 sync {folder} s3://bucket/prefix"),
    ],
)
def test_submit_retraining_whose_data_only_this_machine_has_says_how_to_copy_it(
    name, command, file, queue, tmp_path, monkeypatch
):
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    file.write_text(f"{file.read_text()}\ninbox: {tmp_path / 'inbox'}\n")
    monkeypatch.setattr("adjobs.queue.preflight.missing_paths", lambda spec: iter([str(folder)]))
    result = CliRunner().invoke(main, ["submit", str(file)], catch_exceptions=False)
    assert result.exit_code == 2
    assert f"copy it to S3 ('{command.format(folder=folder)}')" in result.stderr


def test_submit_retraining_whose_data_nobody_has_is_one_line(file, queue, tmp_path):
    (tmp_path / "line-3" / "adjobs-dataset.json").unlink()
    (tmp_path / "line-3").rmdir()
    result = CliRunner().invoke(main, ["submit", str(file)], catch_exceptions=False)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "line-3 is neither on this machine nor on the queue's; correct the path" in result.stderr
