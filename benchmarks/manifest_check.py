"""What `adjobs data check` takes where a manifest names many copies of few images. Prints a table and keeps it in results/.

    python benchmarks/manifest_check.py [--rows 10000 100000] [--images 200] [--side 128] [--baseline DIR]

Exports of databases name the same image under many names. Images are drawn, their copies are hard links, a fifth of them is
anomalous; the check runs in a process of its own with an empty cache. ``--baseline``: a checkout of an older
build, for the first number of rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from report import commit, machine, table, write_result

CHECKOUT = Path(__file__).parents[1]
PROGRAM = """
import atexit, os, pathlib

def keep_peak():  # of this program alone: getrusage counts what started it, too
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    pathlib.Path(os.environ["PEAK_FILE"]).write_text(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

atexit.register(keep_peak)
from adjobs.cli.main import main
main(prog_name="adjobs")
"""
HEAD = "| build | rows | images | wall s | processor s | peak memory MiB | problems |"


def draw(root: Path, rows: int, images: int, side: int) -> None:
    """A manifest with so many rows, each with a file of its own."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    with (root / "manifest.jsonl").open("w") as file:
        for row in range(rows):
            copy, image = divmod(row, images)
            name = f"images/{image:04}-{copy:04}.png"
            if copy:
                os.link(root / "images" / f"{image:04}-0000.png", root / name)
            else:
                Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(root / name)
            file.write(json.dumps({"image": name, "label": "normal" if image % 5 else "anomalous"}) + "\n")


def check(checkout: Path, root: Path, rows: int, images: int) -> list[str]:
    """The table's row of a check; ends this program where it fails."""
    with tempfile.TemporaryDirectory() as home:
        peak_file = Path(home) / "peak"
        environment = {**os.environ, "PYTHONPATH": str(checkout), "ADJOBS_HOME": home, "PEAK_FILE": str(peak_file)}
        environment.pop("ADJOBS_CACHE", None)
        command = [sys.executable, "-c", PROGRAM, "data", "check", str(root), "--json"]
        before, started_at = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, check=False)
        wall, after = time.perf_counter() - started_at, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            sys.exit(f"{checkout}: the check ended with status {done.returncode}: {done.stdout[:300].decode()}")
        peak = int(peak_file.read_text()) / 1024
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    problems = len(json.loads(done.stdout)["problems"])
    return [commit(checkout), f"{rows:,}", str(images), f"{wall:.1f}", f"{processor:.1f}", f"{peak:.0f}", str(problems)]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000], help="of the manifest")
    parser.add_argument("--images", type=int, default=200, help="number of different images")
    parser.add_argument("--side", type=int, default=128, help="of an image in pixels")
    parser.add_argument("--baseline", type=Path, help="checkout of an older build")
    arguments = parser.parse_args()
    about, rows = machine(torch.device("cpu")), []
    for number in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "set"
            draw(root, number, arguments.images, arguments.side)
            older = [arguments.baseline.resolve()] if arguments.baseline and number == arguments.rows[0] else []
            rows += [check(checkout, root, number, arguments.images) for checkout in (*older, CHECKOUT)]
    text = f"Images of {arguments.side} px, grey, 8 bits; each row names a file of its own, a hard link to one of the images."
    write_result("manifest-check", "Checking a manifest with many copies of few images", about, [table(HEAD, rows, 1), text])


if __name__ == "__main__":
    main()
