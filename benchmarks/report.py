"""The pages of all benchmarks: machine, commit and tables, printed and written to results/."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

RESULTS = Path(__file__).with_name("results")


def machine(device: torch.device) -> str:
    """Processor, cores, load, GPU and PyTorch."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}{gpu}, torch {torch.__version__}"


def commit(checkout: Path = RESULTS.parent) -> str:
    """The commit of this build or of another checkout, marked when files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=checkout)
    return done.stdout.strip() or "unknown"


def table(head: str, rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; ``head`` is its first line, the first ``left`` columns are text, the others numbers."""
    columns = head.count("|") - 1
    rule = "|" + "|".join("---" if i < left else "--:" for i in range(columns)) + "|"
    return "\n".join([head, rule, *(f"| {' | '.join(row)} |" for row in rows)])


def write_result(name: str, title: str, about: str, body: Iterable[str]) -> None:
    """Print a result and write it to ``results/NAME.md``.

    Args:
        name: of the file.
        title: of the page; the date is added.
        about: the machine; the commit is added.
        body: paragraphs and tables.
    """
    paragraphs = [f"# {title}, {datetime.now(UTC):%Y-%m-%d}", f"{about}; commit {commit()}", *body]
    text = "\n\n".join(paragraphs) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
