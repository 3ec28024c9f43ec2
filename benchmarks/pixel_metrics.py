"""Pixel metrics of many maps: ours, all from one sort, beside scikit-learn's and anomalib's. Seconds, memory and values.

    python benchmarks/pixel_metrics.py [--maps 1000] [--size 256] [--anomalib-python DIR/bin/python] [--device cuda]

The maps are drawn: smooth noise with round defects on about 3 % of the pixels, higher inside them. Each program runs in a process
of its own. Reading the maps is not counted in the seconds, but the maps themselves (float32) and masks (bool) are in the memory.
anomalib's environment: ``python -m venv DIR && DIR/bin/pip install -r benchmarks/neighbours/requirements.txt``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from neighbours.memory import peak_mib
from scipy import ndimage

METRICS = ("pixel AUROC", "pixel AP", "AU-PRO")
Measurement = dict[str, float]  # seconds, peak_mib, and the values of the metrics


def draw(folder: Path, count: int, side: int, seed: int = 0) -> float:
    """Write ``maps.npy`` and ``masks.npy``; returns the share of defect pixels. Every fourth image is defect-free."""
    rng = np.random.default_rng(seed)
    maps, masks = np.empty((count, side, side), dtype=np.float32), np.zeros((count, side, side), dtype=bool)
    rows, columns = np.mgrid[:side, :side]
    for i in range(count):
        maps[i] = ndimage.gaussian_filter(rng.standard_normal((side, side), dtype=np.float32), 2)
        for _ in range(rng.integers(1, 6) if i % 4 else 0):
            x, y = rng.integers(0, side, 2)
            masks[i] |= (rows - y) ** 2 + (columns - x) ** 2 < (side * rng.uniform(0.01, 0.11)) ** 2
    maps /= maps.std()
    maps += ndimage.gaussian_filter(masks.astype(np.float32), (0, 2, 2))
    np.save(folder / "maps.npy", maps)
    np.save(folder / "masks.npy", masks)
    return float(masks.mean())


def ours(folder: Path, device: str | None) -> Measurement:
    """All metrics in one call."""
    from adjobs.metrics.pixel import exact_pixel_metrics

    maps, masks = np.load(folder / "maps.npy"), np.load(folder / "masks.npy")
    started_at = time.perf_counter()
    metrics = exact_pixel_metrics(maps, masks, limits=(0.3,), device=device)
    seconds = time.perf_counter() - started_at
    values = zip(METRICS, (metrics.auroc, metrics.ap, metrics.au_pro[0.3]), strict=True)
    return {"seconds": seconds, "peak_mib": peak_mib()} | {name: value for name, value in values if value is not None}


def scikit_learn(folder: Path, device: str | None) -> Measurement:
    """AUROC and AP of all pixels in a row; scikit-learn has no AU-PRO and no GPU."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    maps, masks = np.load(folder / "maps.npy").ravel(), np.load(folder / "masks.npy").ravel()
    started_at = time.perf_counter()
    auroc = float(roc_auc_score(masks, maps))
    ap = float(average_precision_score(masks, maps))
    return {"seconds": time.perf_counter() - started_at, "peak_mib": peak_mib(), METRICS[0]: auroc, METRICS[1]: ap}


def only_read(folder: Path, device: str | None) -> Measurement:
    """Read the maps with the imports of our metrics, and compute nothing: the base of the others' memory."""
    import adjobs.metrics.pixel  # noqa: F401

    maps, masks = np.load(folder / "maps.npy"), np.load(folder / "masks.npy")
    return {"seconds": 0.0, "peak_mib": peak_mib(), "bytes": float(maps.nbytes + masks.nbytes)}


def anomalib(python: str, folder: Path, device: str | None) -> Measurement:
    """AU-PRO by anomalib's metric, in its environment."""
    program = Path(__file__).with_name("neighbours") / "anomalib_aupro.py"
    subprocess.run([python, "-W", "ignore", str(program), str(folder), "--device", device or "cpu"], check=True)
    measurement: Measurement = json.loads((folder / "anomalib.json").read_text())
    return measurement


def in_new_process(work: Callable[[Path, str | None], Measurement], folder: Path, device: str | None) -> Measurement:
    """Run in a process of its own, so that the peak memory is that of the work."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, folder, device).result()


def table_row(name: str, measurement: Measurement, reference: Measurement) -> list[str]:
    """A row of the table; values of others with their difference to ours."""
    values = []
    for metric in METRICS:
        if metric not in measurement:
            values.append("–")
        elif measurement is reference:
            values.append(f"{measurement[metric]:.6f}")
        else:
            values.append(f"{measurement[metric]:.6f} ({measurement[metric] - reference[metric]:+.0e})")
    return [name, f"{measurement['seconds']:.2f}", f"{measurement['peak_mib'] / 1024:.2f}", *values]


def main() -> None:
    """Draw, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=1000, help="number of maps")
    parser.add_argument("--size", type=int, default=256, help="side of the maps in pixels")
    parser.add_argument("--anomalib-python", help="Python of the environment with anomalib")
    parser.add_argument("--device", help="where ours sorts and anomalib computes, such as cuda; default: NumPy and the CPU")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="adjobs-maps-") as temporary:
        folder = Path(temporary)
        share = draw(folder, arguments.maps, arguments.size)
        base, reference = in_new_process(only_read, folder, None), in_new_process(ours, folder, arguments.device)
        others = {"scikit-learn, roc_auc_score and average_precision_score": in_new_process(scikit_learn, folder, None)}
        if arguments.anomalib_python:
            others["anomalib 2.7 AUPRO"] = anomalib(arguments.anomalib_python, folder, arguments.device)
    import torch
    from report import machine, table, write_result

    device = torch.device(arguments.device or "cpu")
    head = "| program | seconds | peak resident GiB | pixel AUROC | pixel AP | AU-PRO ≤ 0.3 |"
    rows = [table_row("adjobs, exact_pixel_metrics, all in one call", reference, reference)]
    rows.extend(table_row(name, measurement, reference) for name, measurement in others.items())
    write_result(
        f"pixel-metrics-{device.type}",
        f"Pixel metrics of {arguments.maps} maps of {arguments.size}²",
        machine(device),
        [
            f"{share:.1%} of the pixels are defective. Maps and masks take {base['bytes'] / 2**30:.2f} GiB, a process that only "
            f"reads them {base['peak_mib'] / 1024:.2f}. In brackets the difference to ours."
            + ("" if arguments.anomalib_python else " anomalib was not measured: no --anomalib-python was given."),
            table(head, rows),
        ],
    )


if __name__ == "__main__":
    main()
