"""A user folder of its own, and the command line in this process."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def isolated_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ADJOBS_HOME", str(tmp_path / "home"))
    # Commands add variables to the environment, which must not reach the next test.
    monkeypatch.setattr("os.environ", os.environ.copy())
