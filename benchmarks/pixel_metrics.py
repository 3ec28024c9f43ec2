"""Pixel measures of many maps: ours, all from one sort, beside scikit-learn's and anomalib's. Seconds, memory and values.

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

MEASURES = ("pixel AUROC", "pixel AP", "AU-PRO")
Found = dict[str, float]


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


def ours(folder: Path, device: str | None) -> Found:
    """All measures in one call."""
    from adjobs.metrics.pixel import exact_pixel_metrics

    maps, masks = np.load(folder / "maps.npy"), np.load(folder / "masks.npy")
    begin = time.perf_counter()
    found = exact_pixel_metrics(maps, masks, limits=(0.3,), device=device)
    seconds = time.perf_counter() - begin
    values = zip(MEASURES, (found.auroc, found.ap, found.au_pro[0.3]), strict=True)
    return {"seconds": seconds, "peak_mib": peak_mib()} | {name: value for name, value in values if value is not None}


def scikit_learn(folder: Path, device: str | None) -> Found:
    """AUROC and AP of all pixels in a row; scikit-learn has no AU-PRO and no GPU."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    maps, masks = np.load(folder / "maps.npy").ravel(), np.load(folder / "masks.npy").ravel()
    begin = time.perf_counter()
    auroc = float(roc_auc_score(masks, maps))
    ap = float(average_precision_score(masks, maps))
    return {"seconds": time.perf_counter() - begin, "peak_mib": peak_mib(), MEASURES[0]: auroc, MEASURES[1]: ap}


def nothing(folder: Path, device: str | None) -> Found:
    """Only read the maps, with what our measures import: what the others' memory is to be compared with."""
    import adjobs.metrics.pixel  # noqa: F401

    maps, masks = np.load(folder / "maps.npy"), np.load(folder / "masks.npy")
    return {"seconds": 0.0, "peak_mib": peak_mib(), "bytes": float(maps.nbytes + masks.nbytes)}


def anomalib(python: str, folder: Path, device: str | None) -> Found:
    """AU-PRO by anomalib's metric, in its environment."""
    program = Path(__file__).with_name("neighbours") / "anomalib_aupro.py"
    subprocess.run([python, "-W", "ignore", str(program), str(folder), "--device", device or "cpu"], check=True)
    found: Found = json.loads((folder / "anomalib.json").read_text())
    return found


def apart(work: Callable[[Path, str | None], Found], folder: Path, device: str | None) -> Found:
    """Run in a new process, whose peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, folder, device).result()


def line(name: str, found: Found, reference: Found) -> list[str]:
    """A line of the table; values of others with their difference to ours."""
    values = []
    for measure in MEASURES:
        if measure not in found:
            values.append("–")
        elif found is reference:
            values.append(f"{found[measure]:.6f}")
        else:
            values.append(f"{found[measure]:.6f} ({found[measure] - reference[measure]:+.0e})")
    return [name, f"{found['seconds']:.2f}", f"{found['peak_mib'] / 1024:.2f}", *values]


def main() -> None:
    """Draw, measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--anomalib-python", help="Python of the environment with anomalib")
    parser.add_argument("--device", help="where ours sorts and anomalib computes, such as cuda; NumPy and the CPU unless told")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="adjobs-maps-") as temporary:
        folder = Path(temporary)
        share = draw(folder, arguments.maps, arguments.size)
        base, mine = apart(nothing, folder, None), apart(ours, folder, arguments.device)
        others = {"scikit-learn, roc_auc_score and average_precision_score": apart(scikit_learn, folder, None)}
        if arguments.anomalib_python:
            others["anomalib 2.7 AUPRO"] = anomalib(arguments.anomalib_python, folder, arguments.device)
    import torch
    from report import keep, machine, table

    device = torch.device(arguments.device or "cpu")
    head = "| program | seconds | peak resident GiB | pixel AUROC | pixel AP | AU-PRO ≤ 0.3 |"
    rows = [line("adjobs, pixel_measures, all in one call", mine, mine)]
    rows.extend(line(name, found, mine) for name, found in others.items())
    keep(
        f"pixel-metrics-{device.type}",
        f"Pixel measures of {arguments.maps} maps of {arguments.size}²",
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
