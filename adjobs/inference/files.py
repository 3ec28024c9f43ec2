"""Predictions for picture files: one JSON line and one overlay each."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image
from scipy import ndimage

from adjobs.data.images import decode, stretch
from adjobs.errors import AdjobsError, DataError
from adjobs.inference.detector import Detector

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
LINES_FILE = "predictions.jsonl"
OVERLAY_SIDE = 384  # pixels of an overlay's longer side: enough to see a defect, small enough to send by mail
SPECK = 0.0002  # share of the image, 13 of 256 x 256 pixels: smaller regions are what noise leaves around the pixel threshold
OUTLINE = (64, 224, 255)  # cyan, which the heat map's colours have not


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
        For each file: path and error if it cannot be read, otherwise path, score, decision, threshold, milliseconds;
        defect_area, the share of pixels at or above the pixel threshold, in [0, 1], None without maps; regions, of an image that
        raises an alarm, see :func:`find_regions`; and for methods with maps overlay, the path of the picture drawn.
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
    picture = decode(path)
    found = detector(stretch(picture, detector.manifest.image_size)[None])
    milliseconds = 1000 * (time.perf_counter() - begin)
    line: dict[str, Any] = {
        "path": str(path),
        "score": float(found.scores[0]),
        "decision": "anomalous" if found.decisions[0] else "normal",
        "threshold": detector.threshold,
        "milliseconds": round(milliseconds, 2),
    }
    marked = None if found.marked is None else found.marked[0]
    line["defect_area"] = None if marked is None else float(marked.mean())
    # On an image that is called good, marked pixels are noise: its score says that there is no defect.
    regions, kept = ([], None) if marked is None or not found.decisions[0] else find_regions(marked, picture.size)
    line["regions"] = regions
    if found.maps is not None:
        floor = detector.manifest.map_floor or 0.0
        # Not every method's map is on the scale of its score.
        turns = detector.threshold if detector.pixel_threshold is None else detector.pixel_threshold
        draw_overlay(picture, found.maps[0], floor, turns, kept).save(overlay)
        line["overlay"] = str(overlay)
    return line


def find_regions(marked: np.ndarray, size: tuple[int, int]) -> tuple[list[list[int]], np.ndarray]:
    """The connected regions of marked pixels, without those smaller than `SPECK`.

    Args:
        marked: ``(S, S)`` bool.
        size: width and height of the picture before it was stretched to the square.

    Returns:
        A box for each 8-connected region, largest first: left, top, right, bottom in the picture's pixels, right and bottom being
        the first column and row outside, as Pillow crops; and the pixels of these regions, ``(S, S)`` bool.
    """
    numbers, _ = ndimage.label(marked, structure=np.ones((3, 3)))
    areas = np.bincount(numbers.ravel())[1:]
    places = ndimage.find_objects(numbers)
    large = [i for i in np.argsort(-areas, kind="stable") if areas[i] >= SPECK * marked.size]
    x, y = size[0] / marked.shape[1], size[1] / marked.shape[0]
    boxes = [
        [math.floor(columns.start * x), math.floor(rows.start * y), math.ceil(columns.stop * x), math.ceil(rows.stop * y)]
        for rows, columns in (places[i] for i in large)
    ]
    return boxes, np.isin(numbers, [i + 1 for i in large])


def _append(lines: TextIO, line: dict[str, Any]) -> None:
    """Write at once: a stopped run keeps what it has done."""
    lines.write(json.dumps(line) + "\n")
    lines.flush()


def _free_name(out: Path, path: Path, taken: set[str]) -> Path:
    """A file name for the overlay; pictures of the same name in different folders get a number."""
    name, number = path.stem, 1
    while name in taken:
        number += 1
        name = f"{path.stem}-{number}"
    taken.add(name)
    return out / f"{name}.png"


def draw_overlay(
    picture: Image.Image, map_: np.ndarray, floor: float, threshold: float, regions: np.ndarray | None = None
) -> Image.Image:
    """The picture beside itself with its heat map, at the picture's own proportions.

    The colours mean the same in all pictures of a model: the scale begins at what is usual on good parts, its middle is the
    threshold from which a pixel is marked. Up to half way to the threshold the picture alone is seen.

    Args:
        picture: decoded.
        map_: ``(S, S)`` float.
        floor: what is usual on good pixels.
        threshold: for pixels.
        regions: ``(S, S)`` bool, outlined on the heat map; None for none.
    """
    from matplotlib import colormaps

    scale = OVERLAY_SIDE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR).convert("RGB"), dtype=np.float32)
    resized = np.asarray(Image.fromarray(map_.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    heat = np.clip((resized - floor) / (2 * max(threshold - floor, 1e-12)), 0, 1)  # 0.5 at the threshold
    alpha = np.clip((heat - 0.25) * 2, 0, 0.65)[..., None]
    mixed = (1 - alpha) * pixels + alpha * 255 * colormaps["inferno"](heat)[..., :3]
    if regions is not None:
        mixed[_outline(regions, size)] = OUTLINE
    return Image.fromarray(np.concatenate([pixels, mixed], axis=1).round().astype(np.uint8))


def _outline(regions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A line of two pixels around the regions, not on them: a scratch is no wider than the line."""
    shape = Image.fromarray(regions.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    inside = np.asarray(shape) > 63  # a quarter, so that thin regions survive being made smaller
    return np.asarray(ndimage.binary_dilation(inside, iterations=2) & ~inside)
