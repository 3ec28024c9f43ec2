"""Predictions for image files: one JSON line and one overlay each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from adjobs.data.images import decode
from adjobs.data.walk import IMAGE_SUFFIXES
from adjobs.errors import AdjobsError, DataError
from adjobs.inference.detector import Detector
from adjobs.inference.overlay import draw_overlay

LINES_FILE = "predictions.jsonl"


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """Image files that are named, and those inside named folders, in order.

    Raises:
        DataError: a path that does not exist, or a folder without images.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise DataError(f"'{path}': a folder without images; allowed are {', '.join(sorted(IMAGE_SUFFIXES))}")
            images += inside
        elif path.exists():
            images.append(path)
        else:
            raise DataError(f"'{path}': no such file or folder; give images, or folders of images")
    return images


def predict_files(detector: Detector, paths: Iterable[Path], out: Path) -> Iterator[dict[str, Any]]:
    """Predict one file after the other; overlays and a file of JSON lines are written to ``out``.

    Yields:
        For each file: path and error if it cannot be read, otherwise path, score, decision, threshold, milliseconds;
        defect_area, the share of pixels at or above the pixel threshold, in [0, 1], None without anomaly maps; regions, of an
        anomalous image, see :func:`adjobs.inference.regions.find_regions`; and for methods with anomaly maps overlay, the path of
        the image drawn.
    """
    out.mkdir(parents=True, exist_ok=True)
    used: set[str] = set()
    with (out / LINES_FILE).open("w") as lines:
        for path in paths:
            try:
                line = _predict(detector, path, _free_name(out, path, used))
            except AdjobsError as error:
                line = {"path": str(path), "error": str(error)}
            _append(lines, line)
            yield line


def _predict(detector: Detector, path: Path, overlay: Path) -> dict[str, Any]:
    started_at = time.perf_counter()
    image = decode(path)
    prediction = detector(image)
    milliseconds = 1000 * (time.perf_counter() - started_at)
    line: dict[str, Any] = {
        "path": str(path),
        "score": prediction.score,
        "decision": prediction.decision,
        "threshold": prediction.threshold,
        "milliseconds": round(milliseconds, 2),
        "defect_area": prediction.defect_area,
        "regions": [list(region) for region in prediction.regions],
    }
    if prediction.anomaly_map is not None:
        # Not every method's map is on the scale of its score.
        threshold = detector.threshold if detector.pixel_threshold is None else detector.pixel_threshold
        floor = detector.manifest.map_floor or 0.0
        draw_overlay(image, prediction.anomaly_map, floor, threshold, prediction.region_mask).save(overlay)
        line["overlay"] = str(overlay)
    return line


def _append(lines: TextIO, line: dict[str, Any]) -> None:
    """Write at once: a run that is stopped keeps what it has done."""
    lines.write(json.dumps(line) + "\n")
    lines.flush()


def _free_name(out: Path, path: Path, used: set[str]) -> Path:
    """A file name for the overlay; images of the same name in different folders get a number."""
    name, number = path.stem, 1
    while name in used:
        number += 1
        name = f"{path.stem}-{number}"
    used.add(name)
    return out / f"{name}.png"
