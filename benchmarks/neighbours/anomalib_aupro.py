"""AU-PRO of the maps and masks in a folder by anomalib's metric, for pixel_metrics.py. Runs in the neighbours' environment.

    DIR/bin/python benchmarks/neighbours/anomalib_aupro.py FOLDER [--device cuda]

Reads ``maps.npy`` (N, H, W) float32 and ``masks.npy`` (N, H, W) bool; writes ``anomalib.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from anomalib.metrics import AUPRO
from memory import peak_mib


def main() -> None:
    """Compute AU-PRO once; reading the files is not timed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    maps, masks = (torch.from_numpy(np.load(arguments.folder / f"{name}.npy")) for name in ("maps", "masks"))
    started_at = time.perf_counter()
    metric = AUPRO(fields=["anomaly_map", "gt_mask"], fpr_limit=0.3).to(arguments.device)
    metric.update(SimpleNamespace(anomaly_map=maps.to(arguments.device), gt_mask=masks.byte().to(arguments.device)))
    value = float(metric.compute())
    measurement = {"seconds": time.perf_counter() - started_at, "peak_mib": peak_mib(), "AU-PRO": value}
    (arguments.folder / "anomalib.json").write_text(json.dumps(measurement))


if __name__ == "__main__":
    main()
