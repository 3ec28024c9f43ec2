"""A pass of a retraining, killed after each write that lasts: does the next call end in the state of an undisturbed pass?

    python -m tests.helpers.retraining_kills FOLDER > kills.json
    python benchmarks/retraining_kills.py kills.json

The first command does it, for minutes; this one writes its table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from report import machine, table, write_result


def main() -> None:
    """Read what was observed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("observed", type=Path, help="JSON of tests.helpers.retraining_kills")
    document = json.loads(parser.parse_args().observed.read_text())
    rows = []
    for name, observed in document["kills"].items():
        number, _, write = name.partition(" ")
        differences = ", ".join(sorted(set(observed) - {"killed", "again"})) or "none"
        rows.append([number, write, "yes" if observed["killed"] else "no", str(observed["again"]), differences])
    compared = ", ".join(sorted(document["state"]))
    body = [
        f"One pass of a small retraining makes {len(document['writes'])} writes that last. It is killed (`os._exit`) after each, "
        "of the copies of images after every tenth, and called again. Then what is left is compared with the undisturbed pass: "
        f"{compared}. Metrics are compared bit for bit, without speed and memory.",
        table("| write | what | killed | status of the next call | differences |", rows, left=3),
    ]
    write_result("retraining-kills", "Retraining, killed after each write", machine(torch.device("cpu")), body)


if __name__ == "__main__":
    main()
