"""The command line in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def run_adjobs(*arguments: str, status: int = 0) -> Any:
    """The JSON that ``adjobs ARGUMENTS`` prints; its exit status must be ``status``."""
    command = [sys.executable, "-m", "adjobs", *arguments, "--json"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert process.returncode == status, process.stderr[-2000:]
    return json.loads(process.stdout)
