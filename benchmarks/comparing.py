"""What 'adjobs compare' says of a data set: its table, its recommendation, and what the comparison took.

    python benchmarks/comparing.py DATA [--size 128] [--budget 10m] [--metric image_auroc] [--name tiles]

All methods with their defaults, one after another, on one thread; images with a problem are left out. The runs are recorded in a
folder that is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from report import machine, write_result

from adjobs.tracking.client import connect


def compare(arguments: argparse.Namespace, home: Path) -> tuple[dict[str, Any], str]:
    """Run the comparison; returns its result, and the summary that it stores."""
    command = [sys.executable, "-m", "adjobs", "compare", arguments.data, "--local", "--json", "--budget", arguments.budget]
    command += ["--metric", arguments.metric, "--set", f"data.image_size={arguments.size}", "--set", "data.skip_invalid=true"]
    environment = {**os.environ, "ADJOBS_HOME": str(home), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode:
        raise SystemExit(process.stdout)
    result: dict[str, Any] = json.loads(process.stdout)
    summary = Path(connect(result["tracking_uri"]).download_artifacts(result["run_id"], "summary.md", str(home)))
    return result, summary.read_text().replace(result["data"], Path(arguments.data).name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder or s3:// URI of the data set")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--budget", default="10m", help="time for all trainings")
    parser.add_argument("--metric", default="image_auroc")
    parser.add_argument("--name", default="tiles", help="of the page")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="adjobs-") as folder:
        result, summary = compare(options, Path(folder))
    trained = sum(method["outcome"]["train_seconds"] for method in result["ranking"]["methods"] if method["outcome"])
    _, _, body = summary.partition("\n")
    write_result(
        f"compare-{options.name}",
        f"Which method: {options.name}",
        f"`adjobs compare` at {options.size} px with a budget of {options.budget}, all methods with their defaults. "
        f"{machine(torch.device('cpu'))}, one thread",
        [
            body.strip(),
            f"The whole comparison took {result['seconds']:.0f} s, of which the methods of the table trained {trained:.0f} s.",
        ],
    )


if __name__ == "__main__":
    main()
