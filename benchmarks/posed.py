"""Copy a data set with every image in a pose of its own: smaller, turned by any angle and shifted on a plain background.

    python benchmarks/posed.py TILES OUT
    python benchmarks/accuracy.py OUT --protocol liac --methods cdo --runs DIR

The copy has the layout of the original, with masks posed alike, so it is split in the same way. Workpieces that lie in every
direction, with real defects, are then measured with the same images as workpieces that lie alike.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from adjobs.config.environment import load_settings
from adjobs.data.open import open_dataset

SIDE = 256  # of the copies in pixels
SCALE = 0.62  # of the workpiece's side: only a corner of a workpiece that is shifted farthest is cut off
MAX_SHIFT = 14  # pixels either way
BACKGROUND, NOISE = 40, 2.5  # mean and deviation of grey levels
LISTS = ("labels.csv",)  # files beside the images that say what these are
NEAREST = Image.Resampling.NEAREST


class Pose(NamedTuple):
    """Where a workpiece lies: degrees, and the shift from the middle in pixels."""

    degrees: float
    across: int
    down: int


def draw_pose(rng: np.random.Generator) -> Pose:
    """A pose: any angle, and a small shift."""
    degrees = rng.uniform(0, 360)
    across, down = rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, 2)
    return Pose(degrees, int(across), int(down))


def place(image: Image.Image, pose: Pose, *, resize: Image.Resampling, turn: Image.Resampling) -> np.ndarray:
    """The grey image in its pose on black, ``(256, 256)`` uint8."""
    side = int(SIDE * SCALE)
    corner = (SIDE - side) // 2
    canvas = Image.new("L", (SIDE, SIDE), 0)
    canvas.paste(image.resize((side, side), resize), (corner + pose.across, corner + pose.down))
    return np.asarray(canvas.rotate(pose.degrees, turn, center=(SIDE / 2, SIDE / 2)))


def pose_image(image: Image.Image, pose: Pose, rng: np.random.Generator) -> Image.Image:
    """The image in its pose on a plain, slightly noisy background."""
    background = np.clip(rng.normal(BACKGROUND, NOISE, (SIDE, SIDE)), 0, 255).astype(np.uint8)
    white = Image.new("L", image.size, 255)
    cover = place(white, pose, resize=NEAREST, turn=Image.Resampling.BILINEAR) / 255
    # On black, so that its outline is a little darker than either side, as that of a workpiece that throws a shadow.
    pixels = place(image.convert("L"), pose, resize=Image.Resampling.BICUBIC, turn=Image.Resampling.BICUBIC)
    return Image.fromarray((pixels * cover + background * (1 - cover)).astype(np.uint8))


def main() -> None:
    """Write the copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="data set as 'adjobs train --data' takes it, with masks in files of their own or none")
    parser.add_argument("out", type=Path, help="folder of the copy; must not exist")
    parser.add_argument("--seed", type=int, default=7, help="of the poses")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data, cache=load_settings().cache)
    if any(sample.boxes or sample.blocks or not isinstance(sample.mask, Path | None) for sample in dataset.samples):
        parser.error(f"{arguments.data}: has boxes, blocks or outlines; only masks in files of their own can be posed")
    rng = np.random.default_rng(arguments.seed)
    arguments.out.mkdir(parents=True)
    for name in LISTS:
        if (dataset.root / name).is_file():
            shutil.copy(dataset.root / name, arguments.out / name)
    for sample in dataset.samples:
        pose = draw_pose(rng)
        target = arguments.out / sample.id
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(sample.image) as image:
            posed = pose_image(image, pose, rng)
            size = image.size
        posed.save(target, **({"quality": 95} if target.suffix == ".jpg" else {}))
        if isinstance(sample.mask, Path):
            with Image.open(sample.mask) as mask:
                same_size = mask.convert("L").resize(size, NEAREST)
            pixels = place(same_size, pose, resize=NEAREST, turn=NEAREST) > 127
            mask_target = arguments.out / sample.mask.relative_to(dataset.root)
            mask_target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8) * 255).save(mask_target)
    print(f"{len(dataset.samples)} images in {arguments.out}")


if __name__ == "__main__":
    main()
