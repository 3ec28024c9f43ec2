"""``adjobs submit`` with a working directory, and what it says before it sends anything."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from adjobs.cli.main import main
from adjobs.queue import tokens
from adjobs.queue.ray_jobs import Versions
from adjobs.queue.states import JobState
from adjobs.queue.tokens import Role
from tests.helpers.plugins import write_project
from tests.helpers.queue import RunningQueue


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningQueue]:
    with RunningQueue(tmp_path / "queue") as queue:
        set_token(tmp_path, queue.token(role=Role.SUBMITTER))
        monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ADJOBS_QUEUE_URL", queue.url)
        monkeypatch.setenv("ADJOBS_QUEUE_TOKEN_PATH", str(tmp_path / "token"))
        yield queue


def set_token(folder: Path, token: str) -> None:
    (folder / "token").write_text(token)


@pytest.fixture
def project(queue: RunningQueue, tmp_path: Path) -> Path:
    """A directory with a job file, code, and what must stay at home."""
    root = tmp_path / "project"
    root.mkdir()
    write_job(root, queue.document())
    (root / "code.py").write_text("x = 1\n")
    (root / ".env").write_text("KEY=1\n")
    return root


def write_job(root: Path, document: dict[str, Any]) -> None:
    (root / "job.yaml").write_text(yaml.safe_dump(document))


def submit(project: Path, *arguments: str) -> Result:
    command = ["submit", str(project / "job.yaml"), "--working-dir", str(project), *arguments]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def submit_json(project: Path, *arguments: str) -> Any:
    result = submit(project, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(result: Result) -> str:
    """The error of a command that could not do its work; it is one line."""
    assert (result.exit_code, result.stdout) == (2, "")
    *warnings, error = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert not any(line.startswith("error") for line in warnings)
    return error


def archive_of(queue: RunningQueue, job: str) -> dict[str, bytes]:
    digest = queue.store.get(job).spec["working_dir"]
    with queue.archives.fetched(digest) as path, zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_submit_working_directory_is_uploaded_without_secrets_and_twice_is_once(project, queue):
    result = submit(project)
    assert result.exit_code == 0
    assert f"working directory {project}: 2 files, " in result.stderr
    assert "warning: left out, because they may be secrets: .env; if a job needs one" in result.stderr
    (job,) = queue.store.select()
    assert archive_of(queue, job.id).keys() == {"code.py", "job.yaml"}
    (again,) = submit_json(project)["jobs"]
    assert (again["id"], again["created"]) == (job.id, False)
    (project / "code.py").write_text("x = 2\n")
    (other,) = submit_json(project)["jobs"]
    assert other["created"], "the code is not in the key of the job"


def test_submit_paths_of_files_are_relative_to_the_directory_and_that_of_data_absolute(project, queue, monkeypatch):
    (project / "weights").mkdir()
    (project / "weights" / "w.pth").write_bytes(b"w")
    (project / "split.json").write_text("{}")
    (project / ".gitignore").write_text("weights\n")
    document = queue.document()
    document["data"] |= {"split": "split.json"}
    write_job(project, document | {"params": {"weights": str(project / "weights" / "w.pth")}})
    (job,) = submit_json(project)["jobs"]
    stored = queue.store.get(job["id"]).spec["document"]
    assert (stored["params"]["weights"], stored["data"]["split"]) == ("weights/w.pth", "split.json")
    assert stored["data"]["uri"] == str(queue.data)
    assert {"weights/w.pth", "split.json"} <= archive_of(queue, job["id"]).keys()


def test_submit_data_in_the_directory_stay_where_they_are(project, queue):
    queue.data.rename(project / "images")
    write_job(project, {**queue.document(), "data": {"uri": "images"}})
    (job,) = submit_json(project)["jobs"]
    assert queue.store.get(job["id"]).spec["document"]["data"]["uri"] == str(project / "images")
    assert archive_of(queue, job["id"]).keys() == {"code.py", "job.yaml"}


def test_submit_folder_called_like_the_installed_data_is_uploaded(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setattr("adjobs.queue.admission.data_version", lambda job: "1")
    write_job(project, {**yaml.safe_load((project / "job.yaml").read_text()), "data": {"uri": "elpv"}})
    (project / "elpv").mkdir()
    (project / "elpv" / "model.py").touch()
    assert [file["name"] for file in submit_json(project, "--dry-run")["files"]] == ["code.py", "elpv/model.py", "job.yaml"]


def test_submit_method_of_the_directory_is_checked_and_uploaded(project, queue):
    write_project(project, method="gloss", package="glossy_submit")
    write_job(project, {**queue.document(), "method": "gloss", "params": {"lr": -1}})
    assert "params.lr: got -1" in refused(submit(project))
    write_job(project, {**queue.document(), "method": "gloss", "params": {"lr": 2.0}})
    (job,) = submit_json(project)["jobs"]
    assert queue.store.get(job["id"]).spec["document"]["params"]["lr"] == 2.0
    names = archive_of(queue, job["id"]).keys()
    assert {"glossy_submit/brightness/model.py", "shiny_methods-1.2.dist-info/entry_points.txt"} <= names


def test_submit_dry_run_lists_everything_and_submits_nothing(project, queue):
    result = submit(project, "--dry-run")
    assert [line.split()[0] for line in result.stdout.splitlines()[1:3]] == ["code.py", "job.yaml"]
    assert result.stdout.endswith("nothing was submitted (--dry-run)\n")
    answer = submit_json(project, "--dry-run")
    assert [file["name"] for file in answer["files"]] == ["code.py", "job.yaml"]
    assert answer["preflight"]["upload"]["left_out"] == [".env"]
    assert (queue.store.select(), list((queue.root / "artifacts").rglob("*.zip"))) == ([], [])


def test_submit_directory_of_two_gigabytes_is_one_line_and_nothing_is_sent(project, queue):
    with (project / "huge.bin").open("wb") as file:
        file.truncate(2 * 10**9)
    error = refused(submit(project))
    assert "2.0 GB in 3 files, at most 100.0 MB are uploaded; the largest are huge.bin 2.0 GB, " in error
    assert (queue.store.select(), list((queue.root / "artifacts").rglob("*.zip"))) == ([], [])


def test_submit_limit_of_the_upload_can_be_set(project):
    (project / "big.bin").write_bytes(bytes(1_500_000))
    assert "at most 1.0 MB are uploaded" in refused(submit(project, "--max-upload", "1"))
    assert "is not in the range 1<=x<=104" in submit(project, "--max-upload", "105").stderr


@pytest.mark.parametrize(
    ("token", "problem"),
    [("adj_wrong", "unknown or revoked"), ("viewer", "is a viewer, who cannot change jobs"), ("revoked", "unknown or revoked")],
)
def test_submit_who_may_not_is_refused_in_one_line_and_nothing_is_sent(project, queue, tmp_path, token, problem):
    if token == "viewer":
        token = queue.token("vic", Role.VIEWER)
    elif token == "revoked":
        token = queue.token("rev", Role.SUBMITTER)
        with queue.store.transaction() as connection:
            tokens.revoke(connection, token[:10])
    set_token(tmp_path, token)
    assert problem in refused(submit(project))
    assert (queue.store.select(), list((queue.root / "artifacts").rglob("*.zip"))) == ([], [])


def test_submit_after_an_unknown_job_is_one_line_and_queues_nothing(project, queue):
    assert "no such job" in refused(submit(project, "--after", "abc123"))
    assert queue.store.select() == []


def test_submit_path_that_only_this_machine_has_says_what_to_do(project, queue, monkeypatch):
    monkeypatch.setattr("adjobs.queue.preflight.missing_paths", lambda spec: iter([str(queue.data), str(project / "code.py")]))
    error, place = refused(submit(project)), "is on this machine, but not on the queue's"
    assert f"{queue.data} {place}; copy it to S3 ('adjobs data import {queue.data} s3://" in error
    assert f"{project / 'code.py'} {place}; give the folder that it is in as --working-dir" in error


def test_submit_versions_that_differ_are_warnings(project, queue, monkeypatch):
    monkeypatch.setattr("adjobs.cli.jobs.preflight.__version__", "99.1.0")
    monkeypatch.setattr(queue.cluster, "versions", lambda: Versions("3.9.1", "1.2.3"))
    result = submit(project)
    assert result.exit_code == 0
    warned = [line.split(" is ")[0] for line in result.stderr.splitlines() if line.startswith("warning: ") and " is " in line]
    assert warned == ["warning: adjobs", "warning: Python", "warning: Ray"]
    assert [warning.split(" ")[0] for warning in submit_json(project)["preflight"]["warnings"]] == ["adjobs", "Python", "Ray"]


def test_submit_says_what_is_ahead_and_what_equal_jobs_took(project, queue):
    assert "jobs ahead" not in submit(project, "--force").stderr
    assert "jobs ahead in the queue: 1; a slot is free\n" in submit(project, "--force").stderr
    (first, _) = reversed(queue.store.select())
    claimed = queue.store.claim("one", 1, 30)
    queue.store.note(claimed, progress={"stage": "fit", "done": 1, "total": 1, "memory_mib": 3000.0})
    queue.store.move(claimed, JobState.DONE, "succeeded")
    result = submit(project, "--force")
    assert f"{project / 'job.yaml'}: took 0 s and 3.1 GB of memory (an equal job)" in result.stderr
    assert "took" not in submit(project, "--force", "--set", "params.epochs=7").stderr
    estimate = submit_json(project, "--dry-run")["preflight"]["jobs"][0]["estimate"]
    assert (estimate["jobs"], estimate["memory_mib"], estimate["gpu_memory_mib"]) == (1, 3000.0, None)
    assert first.id == claimed.id
