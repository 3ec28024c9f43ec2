"""Folders and environments of the stack."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from adjobs.stack import config, processes


def test_socket_folder_of_a_long_home_is_short_and_private(tmp_path: Path) -> None:
    long_home = tmp_path / ("x" * 80)
    folder = config.socket_folder(long_home)
    try:
        assert folder == config.socket_folder(long_home) != config.socket_folder(tmp_path / ("y" * 80))
        assert len(str(folder / "ray")) <= 40
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        folder.rmdir()
        config.socket_folder(tmp_path / ("y" * 80)).rmdir()


def test_service_environment_leaves_out_the_variables_of_clients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another S3")
    monkeypatch.setenv("RAY_ADDRESS", "of another cluster")
    stack = config.StackConfig("id", tmp_path, 20000, None, 1, None)
    environment = config.service_environment(stack, "ray", {"A": "b"})
    assert environment["A"] == "b"
    assert environment[processes.STACK_ID] == "id"
    assert not {"AWS_SESSION_TOKEN", "RAY_ADDRESS"} & set(environment)
