"""Secrets are found wherever their values are, and named by their files alone."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from adjobs.errors import StorageError
from adjobs.stack import leaks
from adjobs.stack.probes import Exposure
from adjobs.storage import open_store
from tests.helpers.postgres import free_port

SECRET = "pa'ss\"wörd-of-the-queue"
SECRETS = {"queue-token": SECRET, "ray-token": "another-secret"}


def test_read_secrets_of_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "ray-token").write_text("f00f00f00f00\n")
    (tmp_path / "short").write_text("x")
    keys = {"accessKey": "ADJOBS0123456789", "secretKey": "secret-of-jobs"}
    (tmp_path / "s3.json").write_text(json.dumps({"identities": [{"name": "jobs-with-a-long-name", "credentials": [keys]}]}))
    (tmp_path / "a.pem").write_text("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\nxyz\n-----END PRIVATE KEY-----\n")
    (tmp_path / "b.toml").write_text(
        '[admin]\npassword = "of-the-admin"\n[grpc]\ncert = "/run/secrets/c"\nkey = "/run/secrets/c"\n'
    )
    assert leaks.read_secrets(tmp_path) == {
        "a.pem": "MIGHAgEAMBMG",
        "b.toml": "of-the-admin",
        "ray-token": "f00f00f00f00",
        "s3.json": "secret-of-jobs",
    }


def test_check_permissions_names_what_others_may_use(tmp_path: Path) -> None:
    private, shared = tmp_path / "private", tmp_path / "shared"
    for path, mode in ((private, 0o600), (shared, 0o640)):
        path.touch()
        path.chmod(mode)
    assert leaks.check_permissions("files", [private, tmp_path / "none"]) == ("files", "closed", "1, all of this user alone")
    assert leaks.check_permissions("files", [private, shared]) == ("files", "open", f"{shared} (0640)")


def test_check_command_lines_finds_a_secret_in_an_argument() -> None:
    command = [sys.executable, "-c", "print('ready', flush=True); input()", f"--token={SECRET}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"  # before its program runs, a process may have no arguments yet
        check = leaks.check_command_lines([psutil.Process(process.pid)], SECRETS)
        process.communicate(b"\n")
    assert check.exposure == Exposure.OPEN
    assert f"(process {process.pid})" in check.detail
    assert SECRET not in check.detail
    assert leaks.check_command_lines([psutil.Process()], SECRETS).exposure == Exposure.CLOSED


def test_check_command_lines_does_not_count_a_process_without_arguments() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        ended = psutil.Process(process.pid)
        while ended.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        check = leaks.check_command_lines([ended, psutil.Process()], SECRETS)
    assert check == ("secrets in command lines", "closed", "none in those of 1 processes")


@pytest.mark.parametrize("before", [0, leaks._CHUNK - 5, 3 * leaks._CHUNK - len(SECRET.encode())])
def test_check_files_finds_a_secret_also_across_pieces(tmp_path: Path, before: int) -> None:
    (tmp_path / "ray.log").write_bytes(b"x" * before + SECRET.encode() + b"y")
    (tmp_path / "clean.log").write_bytes(b"x" * 10)
    check = leaks.check_files("logs", [*tmp_path.iterdir(), tmp_path / "none"], SECRETS)
    assert check == ("logs", "open", f"queue-token in {tmp_path}/ray.log")
    assert leaks.check_files("logs", [tmp_path / "clean.log", tmp_path / "none"], SECRETS).detail == "none in 1 files"


def test_check_files_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "clean.log").write_bytes(b"x")
    (tmp_path / "folder.log").mkdir()
    check = leaks.check_files("logs", sorted(tmp_path.iterdir()), SECRETS)
    assert check == ("logs", "unknown", f"1 of 2 files cannot be read ({tmp_path}/folder.log: Is a directory)")
    (tmp_path / "ray.log").write_text(SECRET)
    assert leaks.check_files("logs", sorted(tmp_path.iterdir()), SECRETS).exposure == Exposure.OPEN


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute('create table "odd "" name" (key text, "select" blob)')
        connection.execute('insert into "odd "" name" values (null, ?)', ["x"])
        connection.execute("create table empty (a)")
        connection.commit()
        yield tmp_path / "mlflow.db", connection


def test_check_database_names_the_column(database: tuple[Path, sqlite3.Connection]) -> None:
    path, connection = database
    assert leaks.check_database("MLflow", path, SECRETS) == ("MLflow", "closed", "none in 3 columns of mlflow.db")
    connection.execute('insert into "odd "" name" values (1, ?)', [f"token={SECRET};".encode()])
    connection.commit()
    assert leaks.check_database("MLflow", path, SECRETS) == ("MLflow", "open", 'queue-token in odd " name.select')


def test_check_database_damaged_or_missing_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"damaged" * 1000)
    for name in ("mlflow.db", "none.db"):
        assert leaks.check_database("MLflow", tmp_path / name, SECRETS).exposure == Exposure.UNKNOWN
    assert not (tmp_path / "none.db").exists()


def test_check_records_reads_small_objects_under_the_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    store.write("queue/a/spec.json", b"{}")
    store.write("other/b", SECRET.encode())
    assert leaks.check_records("jobs", store, "queue", SECRETS).exposure == Exposure.CLOSED
    store.write("queue/a/end-1.json", b"x" + SECRET.encode())
    check = leaks.check_records("jobs", store, "queue", SECRETS)
    assert check.exposure == Exposure.OPEN
    assert check.detail.endswith("queue/a/end-1.json")

    def refuse(_: str) -> None:
        raise StorageError("S3 does not answer")

    monkeypatch.setattr(store, "list", refuse)
    assert leaks.check_records("jobs", store, "queue", SECRETS) == ("jobs", "unknown", "S3 does not answer")


def test_check_answer_nothing_listens_is_unknown() -> None:
    assert leaks.check_answer("Ray", f"http://127.0.0.1:{free_port()}/", "token", SECRETS).exposure == Exposure.UNKNOWN
