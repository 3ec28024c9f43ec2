"""Predictions for picture files: one JSON line and one overlay each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image

from adjobs.detector import Detector
from adjobs.errors import AdjobsError, DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
LINES_FILE = "predictions.jsonl"


def find_images(paths: Sequence[str]) -> list[Path]:
    """Picture files named, and those inside named folders, in order.

    Raises:
        DataError: a path that does not exist, or a folder without pictures.
    """
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise DataError(f"'{path}': a folder without pictures; allowed are {', '.join(SUFFIXES)}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"'{path}': no such file or folder; give pictures, or folders of pictures")
    return found


def predict_files(detector: Detector, paths: Iterable[Path], out: Path) -> Iterator[dict[str, Any]]:
    """Predict one file after the other; overlays and a file of JSON lines are written to ``out``.

    Yields:
        For each file: path, score, decision, threshold, milliseconds, overlay; or path and error for one that cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    with (out / LINES_FILE).open("w") as lines:
        for path in paths:
            try:
                line = _predict(detector, path, _free_name(out, path, taken))
            except AdjobsError as error:
                line = {"path": str(path), "error": str(error)}
            _append(lines, line)
            yield line


def _predict(detector: Detector, path: Path, overlay: Path) -> dict[str, Any]:
    begin = time.perf_counter()
    image = detector.read(path)
    found = detector(image[None])
    milliseconds = 1000 * (time.perf_counter() - begin)
    line: dict[str, Any] = {
        "path": str(path),
        "score": float(found.scores[0]),
        "decision": "anomalous" if found.decisions[0] else "normal",
        "threshold": detector.threshold,
        "milliseconds": round(milliseconds, 2),
    }
    if found.maps is not None:
        Image.fromarray(draw_overlay(image, found.maps[0], detector.threshold)).save(overlay)
        line["overlay"] = str(overlay)
    return line


def _append(lines: TextIO, line: dict[str, Any]) -> None:
    """Write at once: a stopped run keeps what it has done."""
    lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    lines.flush()


def _free_name(out: Path, path: Path, taken: set[str]) -> Path:
    """A file name for the overlay; pictures of the same name in different folders get a number."""
    name, number = path.stem, 1
    while name in taken:
        number += 1
        name = f"{path.stem}-{number}"
    taken.add(name)
    return out / f"{name}.png"


def draw_overlay(image: np.ndarray, map_: np.ndarray, threshold: float) -> np.ndarray:
    """The picture beside itself with its heat map.

    The colour scale is the same for all pictures of a model: its middle is the threshold, where a decision turns, its end twice
    that. Below half the threshold the picture alone is seen.

    Args:
        image: ``(H, W, 3)`` uint8.
        map_: ``(H, W)`` float.
        threshold: of the model.

    Returns:
        ``(H, 2 W, 3)`` uint8.
    """
    from matplotlib import colormaps

    scale = max(abs(threshold), 1e-12)
    heat = np.clip(map_ / (2 * scale), 0, 1)  # 0.5 at the threshold
    colours = colormaps["inferno"](heat)[..., :3] * 255
    alpha = np.clip((heat - 0.25) * 2, 0, 0.65)[..., None]
    mixed = (1 - alpha) * image + alpha * colours
    return np.concatenate([image, mixed.round().astype(np.uint8)], axis=1)
