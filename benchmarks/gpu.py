"""Training and prediction on one GPU, with the profile of a step. Prints a table and keeps it in results/.

    python benchmarks/gpu.py [--seconds 4] [--only cdo-default …] [--baseline DIR] [--cdo DIR] [--smoke]

``--baseline``: a checkout of an older build, which is measured in the same run and named in brackets. ``--cdo``: a checkout of
CDO's published code, whose training step is measured beside ours. Images are drawn, weights are random. Needs neither Ray nor
MLflow. Without a GPU, ``--smoke`` checks on the processor that everything runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from builds import FOLDER, SETTINGS, measure_build
from report import commit, machine, table, write_result
from training import default_device

HEAD = (
    "| setting | px, batch | training images/s | kernels a step | launches | waits | GPU busy | fit s | "
    "predict ms/image, batch 1 | batch 16 |"
)
SMOKE_PARAMS = {"width": 16, "texture_count": 4, "backbone": "resnet18", "batch_size": 4}  # where a method has them


def measure_cdo(checkout: Path, size: int, batches: list[int], device: torch.device, seconds: float) -> dict[str, float]:
    """Images per second of CDO's published code by batch size."""
    options = ["--size", str(size), "--batch", *map(str, batches), "--seconds", str(seconds), "--device", str(device)]
    command = [sys.executable, str(FOLDER / "gpu_cdo.py"), *options]
    done = subprocess.run(command, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
    speeds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return speeds


def make_row(setting: dict[str, Any], row: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    """A row of the table; what the older build measured is in brackets, with the ratio of the speeds."""
    batch = setting["params"].get("batch_size", "default")
    if "error" in row:
        return [setting["name"], f"{setting['size']}, {batch}", row["error"], *[""] * 7]

    def cell(key: str, digits: int, higher_is_better: bool | None = None) -> str:
        value, other = row.get(key), (old or {}).get(key)
        text = "–" if value is None else f"{value:.{digits}f}"
        if other is None or value is None:
            return text
        ratio = "" if higher_is_better is None else f"; {value / other if higher_is_better else other / value:.2f} ×"
        return f"{text} ({other:.{digits}f}{ratio})"

    busy = "–" if row.get("busy") is None else f"{row['busy']:.0%}" + (f" ({old['busy']:.0%})" if old and "busy" in old else "")
    return [
        setting["name"],
        f"{setting['size']}, {batch}",
        cell("images_per_s", 1, True),
        cell("kernels", 0),
        cell("launches", 0),
        cell("waits", 1),
        busy,
        cell("fit_s", 2, False),
        cell("predict_ms_1", 2, False),
        cell("predict_ms_16", 2, False),
    ]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of each measurement")
    parser.add_argument("--only", nargs="+", choices=[setting["name"] for setting in SETTINGS], help="settings to measure")
    parser.add_argument("--baseline", type=Path, help="checkout of an older build")
    parser.add_argument("--cdo", type=Path, help="checkout of CDO's published code")
    parser.add_argument("--smoke", action="store_true", help="small images, and a moment each: does it run?")
    arguments = parser.parse_args()
    device = default_device()
    if device.type == "cpu" and not arguments.smoke:
        sys.exit("no GPU here; give --smoke to check on the processor that everything runs")
    settings = [{**each, "bf16": True} for each in SETTINGS if arguments.only is None or each["name"] in arguments.only]
    seconds = arguments.seconds
    if arguments.smoke:
        bf16, seconds = device.type == "cuda", 0.1
        settings = [{**each, "size": 64, "bf16": bf16, "params": {**each["params"], **SMOKE_PARAMS}} for each in settings]
    ours = measure_build(None, settings, device, seconds)
    old = {} if arguments.baseline is None else measure_build(arguments.baseline, settings, device, seconds)
    rows = [make_row(setting, ours[setting["name"]], old.get(setting["name"])) for setting in settings]
    body = [table(HEAD, rows)]
    if arguments.baseline is not None:
        about = f"the older build ({commit(arguments.baseline)}) in the same run"
        body.append(f"In brackets: {about}, and how many times faster this one is.")
    if arguments.cdo is not None:
        speeds = measure_cdo(arguments.cdo, settings[0]["size"], [8, 32], device, seconds)
        text = ", ".join(f"batch {batch}: {speed:.1f} images/s" for batch, speed in speeds.items())
        body.append(f"CDO's published code (HRNet-W32, float32, images on the device): {text}.")
    if arguments.smoke:
        print("\n\n".join(body))
    else:
        write_result("gpu", "Speed on a GPU", f"{machine(device)}; bf16 autocast in training, float32 in prediction", body)


if __name__ == "__main__":
    main()
