"""What places of normal images are best compared with: several data sets, several numbers of images, several draws of them.

    python benchmarks/posed.py TILES POSED
    python benchmarks/places.py TILES POSED

Workpieces that lie alike, and the same ones in any pose, must be told apart by normal images alone. ``adjobs.data.places`` takes
from here how far neighbours must be ahead, and how many images it needs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from report import machine, table, write_result

from adjobs.config.environment import load_settings
from adjobs.data.dataset import Dataset
from adjobs.data.images import find_reading, load_rgb
from adjobs.data.open import open_dataset
from adjobs.data.packing import scale
from adjobs.data.places import MARGIN, MAX_IMAGES, MIN_IMAGES, Places
from adjobs.synthesis.places import SIDE, compare_places

HEAD = "| data | images | any place ÷ same place, by draw | same place | any place | compared with |"


def load_normal(dataset: Dataset) -> torch.Tensor:
    """All normal images, ``(N, 128, 128, 3)`` uint8."""
    normal = [
        sample.image for sample in dataset.samples if sample.label == "normal" and sample.published_split in (None, "train")
    ]
    reading = find_reading(normal)
    return torch.from_numpy(np.stack([load_rgb(path, SIDE, reading) for path in normal]))


def compare(images: torch.Tensor, count: int, seed: int) -> Places:
    """Compare the places of so many images, drawn by the seed."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:count]
    return compare_places(scale(images[chosen]), generator)


def table_row(name: str, draws: list[Places]) -> list[str]:
    """A row of the table: the draws of one number of images."""
    ratios = ", ".join(f"{draw.by_neighbour / draw.by_place:.2f}" for draw in draws)
    means = [f"{np.mean(values):.2f}" for values in zip(*((draw.by_place, draw.by_neighbour) for draw in draws), strict=True)]
    return [name, str(draws[0].images), ratios, *means, ", ".join(sorted({draw.best for draw in draws}))]


def main() -> None:
    """Compare, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="data sets as 'adjobs train --data' takes them")
    parser.add_argument("--counts", type=int, nargs="+", default=[MIN_IMAGES, 40, MAX_IMAGES], help="numbers of images")
    parser.add_argument("--draws", type=int, default=5, help="draws of each number")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for uri in arguments.data:
        images = load_normal(open_dataset(uri, cache=load_settings().cache))
        for count in sorted({min(count, len(images)) for count in arguments.counts}):
            rows.append(table_row(Path(uri.rstrip("/")).name, [compare(images, count, seed) for seed in range(arguments.draws)]))
    about = (
        f"Average precision for defects simulated on held-out normal images, each draw with images and defects of its own. Any "
        f"place is taken where it has more than {MARGIN:g} times the average precision of the same place."
    )
    write_result("places", "Places", machine(torch.device("cpu")), [about, table(HEAD, rows, left=1)])


if __name__ == "__main__":
    main()
