"""How much room does an installation take, and what takes it?

    python benchmarks/install_size.py --extra train                            # into a fresh environment, which is removed
    python benchmarks/install_size.py --environment cpu=/path/to/environment   # of one that exists

Sizes are those of the files on the disk, without Python's compiled ones, of an environment of its own with the versions of
requirements.lock.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from report import machine, table, write_result

ROOT = Path(__file__).parents[1]
LARGEST = 6  # packages that are named


def sizes(environment: Path) -> Counter[str]:
    """Bytes on the disk by folder of the environment's packages; "" for all others."""
    total: Counter[str] = Counter()
    (packages,) = environment.glob("lib/python*/site-packages")
    for path in environment.rglob("*"):
        if path.is_symlink() or not path.is_file() or path.suffix == ".pyc":
            continue
        name = path.relative_to(packages).parts[0] if path.is_relative_to(packages) else ""
        total[name] += path.stat().st_blocks * 512
    return total


@contextmanager
def fresh_environment(extra: str) -> Iterator[Path]:
    """An environment with the package and an extra, as long as the block lasts."""
    with TemporaryDirectory(prefix="adjobs-install-") as folder:
        environment = Path(folder, "environment")
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        constraints = ["--no-compile", "--constraint", str(ROOT / "requirements.lock")]
        subprocess.run([*pip, *constraints, f"{ROOT}[{extra}]"], check=True)
        yield environment


def describe(label: str, environment: Path) -> list[str]:
    """A row of the table."""
    measured = sizes(environment)
    largest = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in measured.most_common(LARGEST))
    return [label, f"{measured.total() / 1e9:.2f}", largest]


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", action="append", default=[], help="extra of the package; repeatable")
    parser.add_argument("--environment", action="append", default=[], metavar="LABEL=PATH", help="one that exists; repeatable")
    parser.add_argument("--note", default="", help="what else the page says")
    arguments = parser.parse_args()
    rows = []
    for extra in arguments.extra:
        with fresh_environment(extra) as environment:
            rows.append(describe(f"adjobs[{extra}]", environment))
    for pair in arguments.environment:
        label, _, path = pair.partition("=")
        rows.append(describe(label, Path(path)))
    if not rows:
        parser.error("nothing to measure: give --extra or --environment")
    body = [table("| installation | GB | largest packages, GB |", rows, left=3), *([arguments.note] if arguments.note else [])]
    write_result("install-size", "Size of an installation", machine(torch.device("cpu")), body)


if __name__ == "__main__":
    main()
