"""Settings from an environment and the variables of the embedded stack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adjobs.config.settings import QueueSettings, Settings, applicable, is_stack_stopped, stack_environment, stack_file
from adjobs.errors import AdjobsError, StackError

STACK = {
    "MLFLOW_TRACKING_URI": "http://stack",
    "ADJOBS_ARTIFACTS": "s3://stack",
    "AWS_ENDPOINT_URL": "http://s3",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "RAY_ADDRESS": "127.0.0.1:1",
    "ADJOBS_QUEUE_URL": "http://queue",
}


def test_from_env_empty_environment_uses_the_home(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    home = tmp_path / ".adjobs"
    queue = QueueSettings(f"sqlite:///{home}/queue/queue.db")
    assert Settings.from_env({}) == Settings(
        home, f"sqlite:///{home}/mlflow/mlflow.db", str(home / "artifacts"), None, home / "cache", queue
    )


def test_from_env_variables_win_over_the_stack(tmp_path):
    env = {"ADJOBS_HOME": str(tmp_path), "ADJOBS_CACHE": str(tmp_path / "c"), "MLFLOW_TRACKING_URI": "http://own"}
    before = dict(env)
    settings = Settings.from_env(env, STACK)
    queue = QueueSettings(f"sqlite:///{tmp_path}/queue/queue.db", "http://queue")
    assert settings == Settings(tmp_path, "http://own", "s3://stack", "127.0.0.1:1", tmp_path / "c", queue)
    assert env == before


def test_from_env_own_queue_wins_over_the_stack_with_all_its_variables(tmp_path):
    env = {"ADJOBS_QUEUE_URL": "https://line-3", "ADJOBS_QUEUE_TOKEN_PATH": str(tmp_path / "token")}
    stack = {**STACK, "ADJOBS_QUEUE_TOKEN_PATH": "/stack/token"}
    queue = Settings.from_env(env, stack).queue
    assert (queue.url, queue.token_path) == ("https://line-3", tmp_path / "token")
    own = Settings.from_env({"ADJOBS_ARTIFACTS": "s3://own"}, stack)
    assert (own.artifacts, own.queue.url) == ("s3://own", "http://queue")


@pytest.mark.parametrize(
    ("artifacts", "resolved"),
    [("s3://bucket/x/", "s3://bucket/x"), ("file:///data/x/", "/data/x"), ("x", str(Path("x").absolute()))],
)
def test_from_env_artifacts_are_absolute(artifacts, resolved):
    assert Settings.from_env({"ADJOBS_ARTIFACTS": artifacts}).artifacts == resolved


def test_applicable_leaves_out_all_variables_of_an_overridden_system():
    assert applicable(STACK, {"AWS_ENDPOINT_URL": "http://own"}) == {
        name: value for name, value in STACK.items() if not name.startswith("AWS_")
    }


def test_stack_environment_without_a_stack_is_empty(tmp_path):
    assert stack_environment(tmp_path) == {}
    stack_file(tmp_path).write_text(json.dumps({"environment": STACK}))
    assert stack_environment(tmp_path) == STACK


def test_stack_environment_damaged_record_is_refused(tmp_path):
    stack_file(tmp_path).write_text("{")
    with pytest.raises(StackError, match=r"cannot be read .*; run 'adjobs down', then 'adjobs up'"):
        stack_environment(tmp_path)


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "RAY_API_SERVER_ADDRESS", "ADJOBS_QUEUE_URL"])
def test_from_env_address_with_a_password_is_refused_without_printing_it(name, tmp_path):
    with pytest.raises(AdjobsError, match=f"^{name}: holds a user or a password before '@'.*; remove it and set [A-Z]") as caught:
        Settings.from_env({"ADJOBS_HOME": str(tmp_path), name: "https://ann:geheim@host:5000/x"})
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("uri", ["sqlite:////home/ann@work/mlflow.db", "http://host:5000/a@b"])
def test_from_env_at_sign_in_a_path_is_no_password(uri, tmp_path):
    assert Settings.from_env({"ADJOBS_HOME": str(tmp_path), "MLFLOW_TRACKING_URI": uri}).tracking_uri == uri


def test_is_stack_stopped_if_it_has_runs_and_no_record(tmp_path):
    assert not is_stack_stopped(tmp_path)
    database = tmp_path / "stack" / "mlflow" / "mlflow.db"
    database.parent.mkdir(parents=True)
    database.touch()
    assert is_stack_stopped(tmp_path)
    stack_file(tmp_path).touch()
    assert not is_stack_stopped(tmp_path)
