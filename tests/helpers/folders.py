"""Folders that fixtures of a module's scope leave."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def delete_unless_failed(folder: Path, request: pytest.FixtureRequest) -> None:
    """Delete what tests need no more, and take gigabytes in all; after a failure it stays, to look at."""
    if not request.session.testsfailed:
        shutil.rmtree(folder, ignore_errors=True)
