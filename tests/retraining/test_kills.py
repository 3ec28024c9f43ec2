"""A pass that is killed after a write that lasts, and run again, ends as one that nobody disturbed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_pass_killed_anywhere_ends_as_one_that_was_not(tmp_path: Path):
    command = [sys.executable, "-m", "tests.helpers.retraining_kills", str(tmp_path), "7", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["state"]["end"]["state"] == "promoted"
    assert result["state"]["runs"] == ["FINISHED", "FINISHED"]
    assert result["state"]["models"] == 2
    assert len(result["kills"]) >= 3
    for name, seen in result["kills"].items():
        assert seen == {"killed": True, "again": 0}, name
