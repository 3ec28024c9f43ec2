"""The tags of user and source."""

from __future__ import annotations

import sys

import pytest

from adjobs.tracking.source import command_name, source_tags, user_name


def test_user_name_has_login_and_account(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "mia")
    assert user_name({}) == "mia"
    assert user_name({"MLFLOW_TRACKING_USERNAME": "mia"}) == "mia"
    assert user_name({"MLFLOW_TRACKING_USERNAME": "line"}) == "mia (line)"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["/usr/bin/adjobs", "train", "s3://key:secret@host/job.yaml"], "adjobs train"),
        (["/lib/adjobs/__main__.py", "compare"], "adjobs compare"),
        (["/usr/bin/adjobs", "--help"], "adjobs"),
        (["/home/ann/nightly.py", "token"], "nightly.py"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_command_name_has_no_arguments(arguments, name):
    assert command_name(arguments) == name


def test_source_tags_say_who_and_what(monkeypatch, tmp_path):
    monkeypatch.setattr("getpass.getuser", lambda: "mia")
    monkeypatch.setattr(sys, "argv", ["adjobs", "train"])
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.chdir(tmp_path)
    tags = source_tags(is_job=False)
    assert tags == {"mlflow.user": "mia", "mlflow.source.name": "adjobs train", "mlflow.source.type": "LOCAL"}
    assert source_tags(is_job=True)["mlflow.source.type"] == "JOB"
