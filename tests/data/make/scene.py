"""The scene that the programs of this folder annotate with real tools: six images of 40 x 30 pixels, masks known to the pixel.

Besides masks there are polygons along the edges of pixels, and for a circle its centre and radius.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30
CIRCLE = (20, 15, 8)  # x, y, radius
HOLE = (10, 10, 16, 16)

BOXES = {  # left, top, right, bottom of each defect
    "square": [("scratch", (5, 4, 15, 14))],
    "small": [("dent", (20, 10, 23, 13))],
    "circle": [("stain", (12, 7, 28, 23))],
    "hole": [("crack", (5, 5, 25, 25))],
    "two": [("scratch", (2, 2, 7, 7)), ("dent", (30, 20, 34, 28))],
    "empty": [],
}


def masks(name: str) -> list[tuple[str, np.ndarray]]:
    """Class and mask (HEIGHT, WIDTH) bool of each defect in an image."""
    result = []
    for label, (left, top, right, bottom) in BOXES[name]:
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        mask[top:bottom, left:right] = True
        if name == "circle":
            y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
            mask &= (x - CIRCLE[0]) ** 2 + (y - CIRCLE[1]) ** 2 <= CIRCLE[2] ** 2
        if name == "hole":
            mask[HOLE[1] : HOLE[3], HOLE[0] : HOLE[2]] = False
        result.append((label, mask))
    return result


def corners(box: tuple[int, int, int, int]) -> list[list[float]]:
    """A box as a polygon along its edges."""
    left, top, right, bottom = map(float, box)
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def draw(folder: Path) -> Path:
    """Write the images as grey PNG files; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in BOXES:
        pixels = np.full((HEIGHT, WIDTH), 120, dtype=np.uint8)
        for _, mask in masks(name):
            pixels[mask] = 200
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def drop_images(export: Path) -> None:
    """Remove the images of an export; tests draw them. Masks stay, which are in folders of their own."""
    for path in export.rglob("*.png"):
        if not any(parent.name.startswith(("Segmentation", "panoptic")) for parent in path.parents):
            path.unlink()


def files() -> Path:
    """Where the exports are kept, or the folder given on the command line."""
    return Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "formats" / "files"
