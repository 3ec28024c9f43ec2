"""Training and prediction on a processor beside an older build. Prints a table and keeps it in results/.

    python benchmarks/step_cpu.py --baseline DIR [--rounds 5] [--seconds 8] [--only cdo-default …]

``--baseline``: a checkout of the older build. The builds take turns, each time in a process of their own, and medians are given,
with the smallest and the largest ratio of a round: other work on the machine shows there. Images are drawn, weights are random.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from builds import SETTINGS, measure_build
from report import commit, machine, table, write_result

NAMES = ["cdo-default", "dpae-default", "liac-default", "semirest-small", "slsg-inpaint", "slsg-segment"]
SETTINGS_BY_NAME = {setting["name"]: {**setting, "bf16": False} for setting in SETTINGS if setting["name"] in NAMES}
FIGURES = {"images_per_s": True, "predict_ms_1": False, "predict_ms_16": False}  # whether higher is better
HEAD = (
    "| setting, 256 px | training images/s | older | times as fast | predict ms/image, batch 1 | older | times as fast | "
    "batch 16 | older | times as fast |"
)


def figures_of(checkout: Path | None, setting: dict[str, Any], seconds: float) -> dict[str, float]:
    """The figures of a setting; ends the program with the reason where a build cannot compute it."""
    row: dict[str, Any] = measure_build(checkout, [setting], torch.device("cpu"), seconds)[setting["name"]]
    if "error" in row:
        sys.exit(f"{setting['name']}, {checkout or 'this build'}: {row['error']}")
    return row


def compare(baseline: Path, setting: dict[str, Any], rounds: int, seconds: float) -> list[str]:
    """The table's row of a setting."""
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for i in range(rounds):
        # Whichever build comes first may meet a cooler processor.
        order = (None, baseline) if i % 2 else (baseline, None)
        rows = {checkout: figures_of(checkout, setting, seconds) for checkout in order}
        pairs.append((rows[None], rows[baseline]))
    row = [setting["name"]]
    for figure, higher_is_better in FIGURES.items():
        ours, old = (np.array([pair[i][figure] for pair in pairs]) for i in (0, 1))
        ratios = ours / old if higher_is_better else old / ours
        spread = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        row += [f"{np.median(ours):.2f}", f"{np.median(old):.2f}", spread]
    return row


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, required=True, help="checkout of an older build")
    parser.add_argument("--rounds", type=int, default=5, help="how often each build is measured")
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of each measurement")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="settings to measure")
    arguments = parser.parse_args()
    about = machine(torch.device("cpu"))
    rows = [compare(arguments.baseline, SETTINGS_BY_NAME[name], arguments.rounds, arguments.seconds) for name in arguments.only]
    older = f"Older: {commit(arguments.baseline)}, in the same run."
    text = f"{older} Medians over {arguments.rounds} rounds; of the ratios also the smallest and the largest."
    title = "A training step and a prediction on a processor, beside an older build"
    write_result("step-cpu", title, about, [table(HEAD, rows), text])


if __name__ == "__main__":
    main()
