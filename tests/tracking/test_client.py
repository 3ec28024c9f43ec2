"""Connecting to MLflow: its errors in one line, and a SQLite file that several processes make at once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import HTTPError
from sqlalchemy.exc import DatabaseError, OperationalError

from adjobs.errors import StorageError, TrackingError
from adjobs.tracking.client import connect, mlflow_errors

CONNECT = "import sys; from adjobs.tracking.client import connect; print(len(connect(sys.argv[1]).search_experiments()))"


def of_sqlite(text: str) -> OperationalError:
    return OperationalError("SELECT 1\nFROM runs", {}, sqlite3.OperationalError(text))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RequestsConnectionError("Max retries exceeded with url: /"),
            "no answer; start it ('adjobs up' starts one here), or set",
        ),
        (MlflowException("Run with id=7 not found"), "Run with id=7 not found"),
        (
            MlflowException("API request to endpoint /x failed with error code 401 != 200. Response body: 'You are not …'"),
            "refuses the password of 'ann'; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of an account",
        ),
        (HTTPError("403 Client Error: FORBIDDEN for url: http://x/artifacts"), "'ann' may not do this; who made the experiment"),
        (
            MlflowException("API request to endpoint /x failed with error code 403 != 200. Response body: 'Permission denied'"),
            "'ann' may not do this; who made the experiment",
        ),
        (
            PermissionError(13, "Permission denied", "/x/mlruns"),
            "Permission denied: '/x/mlruns'; check the folder, its permissions",
        ),
        (of_sqlite("database is locked"), "database is locked; another process holds the file: stop it, or try again"),
        (MlflowException(of_sqlite("database is locked")), "database is locked; another process holds the file"),
        (of_sqlite("database or disk is full"), "database or disk is full; check the folder, its permissions and the free space"),
        (of_sqlite("unable to open database file"), "unable to open database file; check the folder"),
        (DatabaseError("", {}, sqlite3.DatabaseError("file is not a database")), "file is not a database"),
        (OSError(28, "No space left on device", "/x/job.yaml"), "No space left on device: '/x/job.yaml'; check the folder"),
    ],
)
def test_mlflow_errors_are_one_line(error, message, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    with pytest.raises(TrackingError) as raised, mlflow_errors("sqlite:///x.db"):
        raise error
    text = str(raised.value)
    assert text.startswith("MLflow at sqlite:///x.db: ")
    assert message in text
    assert "\n" not in text
    assert "SELECT" not in text


@pytest.mark.parametrize("error", [KeyError("x"), StorageError("x"), TrackingError("x")])
def test_mlflow_errors_of_others_pass(error):
    with pytest.raises(type(error)) as raised, mlflow_errors("sqlite:///x.db"):
        raise error
    assert raised.value is error


def test_mlflow_errors_not_found_while_the_stack_is_stopped_says_how_to_go_on(tmp_path):
    (tmp_path / "stack" / "mlflow").mkdir(parents=True)
    (tmp_path / "stack" / "mlflow" / "mlflow.db").touch()
    own, action = f"sqlite:///{tmp_path}/mlflow/mlflow.db", "start that with 'adjobs up' and run this command again"
    for error, uri, is_hinted in (
        (MlflowException("Run with id=7 not found"), own, True),
        (MlflowException("Registered Model with name=m not found"), own, True),
        (MlflowException("Run with id=7 not found"), "http://mlflow:5000", False),
        (of_sqlite("database is locked"), own, False),
    ):
        with pytest.raises(TrackingError) as raised, mlflow_errors(uri):
            raise error
        assert (action in str(raised.value)) == is_hinted, uri


def test_connect_file_in_the_way_of_the_folder_is_one_line(tmp_path):
    (tmp_path / "mlflow").touch()
    with pytest.raises(TrackingError, match=r"mlflow.db: \[Errno 17\] File exists: .*/mlflow'; check the folder"):
        connect(f"sqlite:///{tmp_path}/mlflow/mlflow.db")


def test_connect_interrupted_while_the_file_is_made_leaves_nothing(tmp_path, monkeypatch):
    def make_half(tracking_uri: str) -> None:
        Path(tracking_uri.removeprefix("sqlite:///")).write_bytes(b"half")
        raise of_sqlite("disk I/O error")

    monkeypatch.setattr(mlflow, "MlflowClient", make_half)
    with pytest.raises(TrackingError, match="disk I/O error"):
        connect(f"sqlite:///{tmp_path}/mlflow.db")
    assert [path.name for path in tmp_path.iterdir() if path.name != "migrate.lock"] == []


@pytest.mark.slow
def test_connect_several_processes_make_one_file(tmp_path):
    uri = f"sqlite:///{tmp_path}/home/mlflow.db"
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    processes = [
        subprocess.Popen([sys.executable, "-c", CONNECT, uri], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=180) for process in processes]
    assert [output.strip() for output, _ in outputs] == [b"1"] * 3, outputs
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["migrate.lock", "mlflow.db"]
