"""Draw pictures of a tray with six parts, each at its place, and of trays on which something is wrong.

    python examples/scenes.py DIR [--normal 120] [--anomalous 60] [--size 256] [--seed 0]
    adjobs train --method cdo --data DIR

For trying methods on logical anomalies (a part missing, doubled, or two of them swapped) beside structural ones (a scratch, a
stain), where MVTec LOCO AD, whose layout they have, is not at hand. Every part by itself is as it should be in a logical anomaly;
only its place is wrong. A mask is where a picture differs from the one that would have been drawn without the defect.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

FINER = 4  # drawn so many times larger, then reduced, for smooth edges
LOGICAL, STRUCTURAL = ("missing", "doubled", "swapped"), ("scratch", "stain")
# Grey values of the masks, and from which share of its area a defect counts as found.
KINDS = {name: (255 - i, 1.0 if name in LOGICAL else 0.5) for i, name in enumerate(LOGICAL + STRUCTURAL)}

Place = tuple[float, float]
Part = tuple[str, Place]  # shape and centre, in units of the side

# What lies where on a good tray.
TRAY: tuple[Part, ...] = (
    ("disc", (0.2, 0.3)),
    ("square", (0.5, 0.3)),
    ("triangle", (0.8, 0.3)),
    ("ring", (0.2, 0.7)),
    ("cross", (0.5, 0.7)),
    ("bar", (0.8, 0.7)),
)
BETWEEN: tuple[Place, ...] = ((0.35, 0.5), (0.65, 0.5), (0.35, 0.12), (0.65, 0.88))  # free places, for a part too many
COLOURS = {
    "disc": (200, 60, 50),
    "square": (60, 90, 190),
    "triangle": (70, 160, 80),
    "ring": (210, 170, 60),
    "cross": (140, 80, 160),
    "bar": (120, 125, 130),
}


class Scene:
    """One tray with its light, its colours and the small shifts of its parts; the same again however often it is drawn."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.size = size
        self.shift = {shape: rng.normal(0, 0.006, 2) for shape in COLOURS}
        self.turn = {shape: rng.normal(0, 0.08) for shape in COLOURS}
        self.tint = {shape: rng.normal(0, 6, 3) for shape in COLOURS}
        y, x = np.mgrid[:size, :size] / size - 0.5
        slope = rng.normal(0, 12, 2)
        grain = rng.normal(0, 2.5, (size, size, 1)) + 4 * np.sin(2 * np.pi * (40 * y + rng.random()))[..., None]
        self.light = (slope[0] * y + slope[1] * x)[..., None] + grain + rng.normal(0, 4)

    def draw(self, parts: tuple[Part, ...], flaw: Callable[[ImageDraw.ImageDraw, int], None] | None = None) -> np.ndarray:
        """The picture of these parts, ``(size, size, 3)`` uint8, with a flaw drawn over them."""
        side = FINER * self.size
        canvas = Image.new("RGB", (side, side), (176, 168, 158))
        pen = ImageDraw.Draw(canvas)
        for shape, place in parts:
            colour = tuple(int(c) for c in np.clip(np.array(COLOURS[shape]) + self.tint[shape], 0, 255))
            _draw_part(pen, shape, (np.array(place) + self.shift[shape]) * side, 0.085 * side, self.turn[shape], colour)
        if flaw is not None:
            flaw(pen, side)
        small = np.asarray(canvas.resize((self.size, self.size), Image.Resampling.BOX), dtype=np.float64)
        return np.clip(small + self.light, 0, 255).astype(np.uint8)


def _draw_part(
    pen: ImageDraw.ImageDraw, shape: str, centre: np.ndarray, radius: float, turn: float, colour: tuple[int, ...]
) -> None:
    """One part; discs and rings look the same however they are turned."""

    def around(*points: Place) -> list[Place]:
        cos, sin = np.cos(turn), np.sin(turn)
        return [(centre[0] + radius * (cos * x - sin * y), centre[1] + radius * (sin * x + cos * y)) for x, y in points]

    if shape in ("disc", "ring"):
        box = [*(centre - radius), *(centre + radius)]
        pen.ellipse(box, fill=colour if shape == "disc" else None, outline=colour, width=int(radius / 2.5))
    elif shape == "square":
        pen.polygon(around((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)), fill=colour)
    elif shape == "triangle":
        pen.polygon(around((0, -1.1), (1, 0.8), (-1, 0.8)), fill=colour)
    elif shape == "bar":
        pen.polygon(around((-0.4, -1.2), (0.4, -1.2), (0.4, 1.2), (-0.4, 1.2)), fill=colour)
    else:
        for long in ((1.0, 0.3), (0.3, 1.0)):
            x, y = long
            pen.polygon(around((-x, -y), (x, -y), (x, y), (-x, y)), fill=colour)


def missing(rng: np.random.Generator) -> tuple[Part, ...]:
    """A tray that lacks a part."""
    gone = int(rng.integers(len(TRAY)))
    return TRAY[:gone] + TRAY[gone + 1 :]


def doubled(rng: np.random.Generator) -> tuple[Part, ...]:
    """A tray with a part twice, the second one between the places."""
    shape = TRAY[int(rng.integers(len(TRAY)))][0]
    return (*TRAY, (shape, BETWEEN[int(rng.integers(len(BETWEEN)))]))


def swapped(rng: np.random.Generator) -> tuple[Part, ...]:
    """A tray on which two parts have changed places."""
    a, b = rng.choice(len(TRAY), 2, replace=False)
    parts = list(TRAY)
    parts[a], parts[b] = (TRAY[a][0], TRAY[b][1]), (TRAY[b][0], TRAY[a][1])
    return tuple(parts)


def scratch(rng: np.random.Generator) -> Callable[[ImageDraw.ImageDraw, int], None]:
    """A thin bent line anywhere."""
    start, way = rng.uniform(0.15, 0.85, 2), rng.normal(0, 1, 2)
    step = 0.06 * way / np.linalg.norm(way)
    bends = np.cumsum(np.vstack([start, step + rng.normal(0, 0.012, (5, 2))]), 0)
    grey = int(rng.choice([40, 235]))

    def flaw(pen: ImageDraw.ImageDraw, side: int) -> None:
        pen.line([tuple(point) for point in bends * side], fill=(grey,) * 3, width=max(1, round(0.008 * side)), joint="curve")

    return flaw


def stain(rng: np.random.Generator) -> Callable[[ImageDraw.ImageDraw, int], None]:
    """A dark blot anywhere."""
    centre, radius = rng.uniform(0.15, 0.85, 2), rng.uniform(0.03, 0.06)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    edge = radius * rng.uniform(0.6, 1.2, 12)
    colour = tuple(int(c) for c in rng.uniform(40, 100, 3))

    def flaw(pen: ImageDraw.ImageDraw, side: int) -> None:
        points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * edge[:, None]
        pen.polygon([tuple(point) for point in points * side], fill=colour)

    return flaw


def anomalous(kind: str, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a defect of this kind, and where it is, ``(size, size)`` bool."""
    scene = Scene(rng, size)
    good = scene.draw(TRAY)
    if kind in LOGICAL:
        bad = scene.draw({"missing": missing, "doubled": doubled, "swapped": swapped}[kind](rng))
    else:
        bad = scene.draw(TRAY, {"scratch": scratch, "stain": stain}[kind](rng))
    return bad, (bad != good).any(2)


def draw_scenes(root: Path, normal: int, anomalies: int, size: int = 256, seed: int = 0) -> Path:
    """Write a data set in the layout of MVTec LOCO AD.

    Args:
        root: an empty or a new folder.
        normal: good trays, three or more: two thirds to train, a sixth each to validate and to test.
        anomalies: bad ones, all to test, as many of each kind as of any other.
        size: side of the pictures in pixels.
        seed: of everything.

    Returns:
        ``root``.
    """
    rng = np.random.default_rng(seed)
    held = max(1, normal // 6)
    parts = ["validation"] * held + ["test"] * held + ["train"] * (normal - 2 * held)
    for i, part in enumerate(parts):
        _save(Scene(rng, size).draw(TRAY), root / part / "good" / f"{i:03}.png")
    for i in range(anomalies):
        kind = list(KINDS)[i % len(KINDS)]
        picture, mask = anomalous(kind, rng, size)
        name = f"{'logical' if kind in LOGICAL else 'structural'}_anomalies/{i:03}"
        _save(picture, root / "test" / f"{name}.png")
        _save(mask.astype(np.uint8) * KINDS[kind][0], root / "ground_truth" / name / "000.png")
    keys = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
    entries = [dict(zip(keys, (kind, value, share, True), strict=True)) for kind, (value, share) in KINDS.items()]
    (root / "defects_config.json").write_text(json.dumps(entries, indent=2))
    return root


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--normal", type=int, default=120)
    parser.add_argument("--anomalous", type=int, default=60)
    parser.add_argument("--size", type=int, default=256, help="side in pixels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        parser.error(f"{folder}: is a file or not empty; give a new folder")
    for name, least in (("normal", 3), ("anomalous", 0), ("size", 32), ("seed", 0)):
        if getattr(arguments, name) < least:
            parser.error(f"--{name}: got {getattr(arguments, name)}, allowed are numbers from {least} on")
    draw_scenes(folder, arguments.normal, arguments.anomalous, arguments.size, arguments.seed)
    print(f"{arguments.normal} good and {arguments.anomalous} bad trays in {folder}")


if __name__ == "__main__":
    main()
