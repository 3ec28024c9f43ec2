"""Draw images of a tray with six components, each in its compartment, and of trays with logical or structural anomalies.

    python examples/scenes.py DIR [--normal 120] [--anomalous 60] [--size 256] [--seed 0]
    adjobs train --method cdo --data DIR

A substitute for MVTec LOCO AD, in the same layout, to try methods on logical anomalies (a component is missing, doubled, or two
are swapped) and structural ones (a scratch, a stain). In a logical anomaly every single component is normal; only its position is
wrong. A mask is where an image differs from the one that would have been drawn without the defect.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 4  # images are drawn larger by this factor, then reduced, for smooth edges
LOGICAL, STRUCTURAL = ("missing", "doubled", "swapped"), ("scratch", "stain")
# Grey value of each mask, and the fraction of its area from which a defect counts as fully detected.
KINDS = {name: (255 - i, 1.0 if name in LOGICAL else 0.5) for i, name in enumerate(LOGICAL + STRUCTURAL)}

Position = tuple[float, float]
Component = tuple[str, Position]  # shape and centre, in units of the side

# The components of a normal tray.
TRAY: tuple[Component, ...] = (
    ("disc", (0.2, 0.3)),
    ("square", (0.5, 0.3)),
    ("triangle", (0.8, 0.3)),
    ("ring", (0.2, 0.7)),
    ("cross", (0.5, 0.7)),
    ("bar", (0.8, 0.7)),
)
FREE_POSITIONS: tuple[Position, ...] = ((0.35, 0.5), (0.65, 0.5), (0.35, 0.12), (0.65, 0.88))  # for an extra component
COLOURS = {
    "disc": (200, 60, 50),
    "square": (60, 90, 190),
    "triangle": (70, 160, 80),
    "ring": (210, 170, 60),
    "cross": (140, 80, 160),
    "bar": (120, 125, 130),
}


class Scene:
    """One tray with its light, its colours and the small shifts of its components, which are the same every time it is drawn."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.size = size
        self.shift = {shape: rng.normal(0, 0.006, 2) for shape in COLOURS}
        self.rotation = {shape: rng.normal(0, 0.08) for shape in COLOURS}
        self.tint = {shape: rng.normal(0, 6, 3) for shape in COLOURS}
        y, x = np.mgrid[:size, :size] / size - 0.5
        slope = rng.normal(0, 12, 2)
        grain = rng.normal(0, 2.5, (size, size, 1)) + 4 * np.sin(2 * np.pi * (40 * y + rng.random()))[..., None]
        self.light = (slope[0] * y + slope[1] * x)[..., None] + grain + rng.normal(0, 4)

    def draw(
        self, components: tuple[Component, ...], draw_defect: Callable[[ImageDraw.ImageDraw, int], None] | None = None
    ) -> np.ndarray:
        """The image of these components, ``(size, size, 3)`` uint8, with ``draw_defect`` applied over them."""
        side = SUPERSAMPLING * self.size
        canvas = Image.new("RGB", (side, side), (176, 168, 158))
        pen = ImageDraw.Draw(canvas)
        for shape, position in components:
            colour = tuple(int(c) for c in np.clip(np.array(COLOURS[shape]) + self.tint[shape], 0, 255))
            _draw_component(
                pen, shape, (np.array(position) + self.shift[shape]) * side, 0.085 * side, self.rotation[shape], colour
            )
        if draw_defect is not None:
            draw_defect(pen, side)
        reduced = np.asarray(canvas.resize((self.size, self.size), Image.Resampling.BOX), dtype=np.float64)
        return np.clip(reduced + self.light, 0, 255).astype(np.uint8)


def _draw_component(
    pen: ImageDraw.ImageDraw, shape: str, centre: np.ndarray, radius: float, rotation: float, colour: tuple[int, ...]
) -> None:
    """Draw one component; rotation does not change discs and rings."""

    def around(*points: Position) -> list[Position]:
        cos, sin = np.cos(rotation), np.sin(rotation)
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
        for x, y in ((1.0, 0.3), (0.3, 1.0)):
            pen.polygon(around((-x, -y), (x, -y), (x, y), (-x, y)), fill=colour)


def missing(rng: np.random.Generator) -> tuple[Component, ...]:
    """A tray without one of its components."""
    removed = int(rng.integers(len(TRAY)))
    return TRAY[:removed] + TRAY[removed + 1 :]


def doubled(rng: np.random.Generator) -> tuple[Component, ...]:
    """A tray with one component twice, the second one outside the compartments."""
    shape = TRAY[int(rng.integers(len(TRAY)))][0]
    return (*TRAY, (shape, FREE_POSITIONS[int(rng.integers(len(FREE_POSITIONS)))]))


def swapped(rng: np.random.Generator) -> tuple[Component, ...]:
    """A tray with two components swapped."""
    a, b = rng.choice(len(TRAY), 2, replace=False)
    components = list(TRAY)
    components[a], components[b] = (TRAY[a][0], TRAY[b][1]), (TRAY[b][0], TRAY[a][1])
    return tuple(components)


def scratch(rng: np.random.Generator) -> Callable[[ImageDraw.ImageDraw, int], None]:
    """A thin bent line at a random position."""
    start, direction = rng.uniform(0.15, 0.85, 2), rng.normal(0, 1, 2)
    step = 0.06 * direction / np.linalg.norm(direction)
    bends = np.cumsum(np.vstack([start, step + rng.normal(0, 0.012, (5, 2))]), 0)
    grey = int(rng.choice([40, 235]))

    def draw_defect(pen: ImageDraw.ImageDraw, side: int) -> None:
        pen.line([tuple(point) for point in bends * side], fill=(grey,) * 3, width=max(1, round(0.008 * side)), joint="curve")

    return draw_defect


def stain(rng: np.random.Generator) -> Callable[[ImageDraw.ImageDraw, int], None]:
    """A dark blot at a random position."""
    centre, radius = rng.uniform(0.15, 0.85, 2), rng.uniform(0.03, 0.06)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    edge = radius * rng.uniform(0.6, 1.2, 12)
    colour = tuple(int(c) for c in rng.uniform(40, 100, 3))

    def draw_defect(pen: ImageDraw.ImageDraw, side: int) -> None:
        points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * edge[:, None]
        pen.polygon([tuple(point) for point in points * side], fill=colour)

    return draw_defect


def anomalous(kind: str, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An image with a defect of this kind, and its mask, ``(size, size)`` bool."""
    scene = Scene(rng, size)
    normal_image = scene.draw(TRAY)
    if kind in LOGICAL:
        image = scene.draw({"missing": missing, "doubled": doubled, "swapped": swapped}[kind](rng))
    else:
        image = scene.draw(TRAY, {"scratch": scratch, "stain": stain}[kind](rng))
    return image, (image != normal_image).any(2)


def draw_scenes(root: Path, normal: int, anomalies: int, size: int = 256, seed: int = 0) -> Path:
    """Write a data set in the layout of MVTec LOCO AD.

    Args:
        root: an empty or new folder.
        normal: number of normal trays, three or more: two thirds for training, a sixth each for validation and test.
        anomalies: number of anomalous trays, all for test, with equal numbers of each kind.
        size: side of the images in pixels.
        seed: random seed.

    Returns:
        ``root``.
    """
    rng = np.random.default_rng(seed)
    n_held_out = max(1, normal // 6)
    splits = ["validation"] * n_held_out + ["test"] * n_held_out + ["train"] * (normal - 2 * n_held_out)
    for i, split in enumerate(splits):
        _save(Scene(rng, size).draw(TRAY), root / split / "good" / f"{i:03}.png")
    for i in range(anomalies):
        kind = list(KINDS)[i % len(KINDS)]
        image, mask = anomalous(kind, rng, size)
        name = f"{'logical' if kind in LOGICAL else 'structural'}_anomalies/{i:03}"
        _save(image, root / "test" / f"{name}.png")
        _save(mask.astype(np.uint8) * KINDS[kind][0], root / "ground_truth" / name / "000.png")
    keys = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")
    entries = [dict(zip(keys, (kind, value, fraction, True), strict=True)) for kind, (value, fraction) in KINDS.items()]
    (root / "defects_config.json").write_text(json.dumps(entries, indent=2))
    return root


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--normal", type=int, default=120)
    parser.add_argument("--anomalous", type=int, default=60)
    parser.add_argument("--size", type=int, default=256, help="side in pixels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        parser.error(f"{folder}: is a file or not empty; choose a new folder")
    for name, minimum in (("normal", 3), ("anomalous", 0), ("size", 32), ("seed", 0)):
        if getattr(arguments, name) < minimum:
            parser.error(f"--{name} is {getattr(arguments, name)}; it must be at least {minimum}")
    draw_scenes(folder, arguments.normal, arguments.anomalous, arguments.size, arguments.seed)
    print(f"{arguments.normal} normal and {arguments.anomalous} anomalous trays in {folder}")


if __name__ == "__main__":
    main()
