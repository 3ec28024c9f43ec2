"""Settings in which builds of adjobs are compared, and their measurement in a process of its own for each build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent
HRNET = {"backbone": "hrnet_w32", "distance": "euclidean"}
SLSG = {"pretrain": "gpt", "width": 64, "texture_count": 16}  # older builds know no other first stage
SETTINGS: list[dict[str, Any]] = [
    {"name": "cdo-default", "method": "cdo", "size": 256, "params": {}},
    {"name": "cdo-hrnet-8", "method": "cdo", "size": 256, "params": HRNET},
    {"name": "cdo-hrnet-32", "method": "cdo", "size": 256, "params": {**HRNET, "batch_size": 32}},
    {"name": "dpae-default", "method": "dpae", "size": 256, "params": {}},
    {"name": "liac-default", "method": "liac", "size": 256, "params": {}},
    {"name": "liac-resnet34", "method": "liac", "size": 224, "params": {"backbone": "resnet34", "views": 1, "batch_size": 64}},
    {"name": "semirest-small", "method": "semirest", "size": 256, "params": {}, "stage": "learn"},
    {"name": "slsg-inpaint", "method": "slsg", "size": 256, "params": SLSG, "stage": "inpaint"},
    {"name": "slsg-segment", "method": "slsg", "size": 256, "params": SLSG, "stage": "segment"},
]


def measure_build(checkout: Path | None, settings: list[dict[str, Any]], device: torch.device, seconds: float) -> dict[str, Any]:
    """Rows by name, of this build or of another checkout."""
    path = [str(FOLDER.parent if checkout is None else checkout), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, str(FOLDER / "build_speed.py"), "--device", str(device), "--seconds", str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    done = subprocess.run(command, input=json.dumps(settings), env=environment, stdout=subprocess.PIPE, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row.pop("name"): row for row in rows}
