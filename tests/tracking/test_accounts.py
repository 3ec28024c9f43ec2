"""Accounts of MLflow, made by the verb in a database of their own."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adjobs.cli.main import main


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server's settings, which lead to a database that does not exist yet."""
    path = tmp_path / "login.ini"
    path.write_text(f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/users.db\n")
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(path))
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["account", *words])


@pytest.mark.slow
def test_account_is_made_changed_listed_and_removed(settings: Path, tmp_path: Path) -> None:
    first = run("set", "ann", "--role", "approver").stdout.strip()
    assert len(first) == 32
    assert json.loads(run("set", "bob", "--json").stdout)["role"] == "member"
    (tmp_path / "password").write_text("a password of jobs\n")
    assert run("set", "jobs", "--password-file", str(tmp_path / "password")).stdout == "jobs: member\n"
    assert run("list").stdout.split() == ["name", "role", "ann", "approver", "bob", "member", "jobs", "member"]

    assert run("set", "ann").stdout.strip() != first  # a new password, and the role that she had
    assert run("set", "bob", "--role", "admin").exit_code == 0
    assert run("list").stdout.split()[2:6] == ["ann", "approver", "bob", "admin"]
    for role in ("editor", "member"):
        assert run("set", "bob", "--role", role).exit_code == 0
        assert f"bob   {role}" in run("list").stdout

    assert run("remove", "ann").stdout == "removed ann\n"
    unknown = run("remove", "ann")
    assert (unknown.exit_code, unknown.stderr) == (2, "error: unknown account 'ann'; there are: bob, jobs\n")
    with sqlite3.connect(tmp_path / "users.db") as database:
        assert "a password of jobs" not in str(database.execute("select * from users").fetchall())


@pytest.mark.parametrize(
    ("name", "password", "message"),
    [
        ("a:b", "x" * 12, "account 'a:b': a name has up to 100 letters, digits and ._@+-; choose another"),
        ("", "x" * 12, "account '': a name has"),
        ("ann", "x" * 11, "got a password of 11 characters; it must have at least 12, all of ASCII; choose another"),
        ("ann", "ä" * 12, "all of ASCII"),
    ],
)
def test_account_with_an_invalid_name_or_password_is_refused(
    settings: Path, tmp_path: Path, name: str, password: str, message: str
) -> None:
    (tmp_path / "password").write_text(password)
    result = run("set", name, "--password-file", str(tmp_path / "password"))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "users.db").exists()


def test_account_password_file_missing_is_one_line(settings: Path, tmp_path: Path) -> None:
    result = run("set", "ann", "--password-file", str(tmp_path / "none"))
    assert result.stderr.endswith("give a file with the password\n")


@pytest.mark.parametrize("text", [None, "", "[mlflow]", "[mlflow]\ndatabase_uri = none", "database_uri"])
def test_account_without_settings_of_a_server_is_one_line(settings: Path, text: str | None) -> None:
    if text is None:
        settings.unlink()
    else:
        settings.write_text(text)
    stderr = run("list").stderr
    assert stderr.startswith(f"error: MLFLOW_AUTH_CONFIG_PATH: {settings} cannot be used (")
    assert stderr.count("\n") == 1


def test_account_elsewhere_than_beside_the_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_AUTH_CONFIG_PATH", raising=False)
    assert "run this command where the server of MLflow runs" in run("list").stderr
