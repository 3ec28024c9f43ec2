"""Seconds of what is fitted to normal images between training steps: SemiREST's coreset and CDO's Gaussians.

    python benchmarks/fits.py [--device cuda] [--vectors 50000] [--selected 5000] [--images 96] [--size 256]

The vectors are drawn in clusters of unequal sizes, the images are random. The coreset stands beside the same search with
one candidate in each round, which is a pass over all vectors for each that is selected. CDO's first fit computes what the frozen
expert contributes; later ones have it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from unittest import mock

import torch
from report import machine, table, write_result
from timing import seconds_of
from torch import Tensor
from training import default_device

from adjobs import methods
from adjobs.data.packing import NO_ROWS
from adjobs.nn import coreset as module
from adjobs.types import Batch


class RandomImages:
    """Normal images as a fit sees them."""

    def __init__(self, count: int, size: int, device: torch.device) -> None:
        images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
        self.images = images.to(device, memory_format=torch.channels_last)

    def normal(self, size: int) -> Iterator[Batch]:
        """Batches of up to ``size`` images; a fit uses nothing else of them."""
        unused = self.images.new_empty(0)
        for images in self.images.split(size):
            yield Batch(images, unused, unused, unused, unused, unused, torch.Generator(images.device), NO_ROWS)


def clusters(count: int, dims: int) -> Tensor:
    """Vectors in 200 clusters, each with 20 directions of its own."""
    generator = torch.Generator().manual_seed(0)
    centres, directions = (torch.randn(200, *shape, generator=generator) for shape in ((dims,), (20, dims)))
    of_cluster = (200 * torch.rand(count, generator=generator) ** 2).long()
    vectors = torch.empty(count, dims)
    for i in range(200):
        members = (of_cluster == i).nonzero()[:, 0]
        vectors[members] = centres[i] + 0.15 * torch.randn(len(members), 20, generator=generator) @ directions[i]
    return vectors


def coreset_rows(arguments: argparse.Namespace, device: torch.device) -> list[list[str]]:
    """Rows of the table: the coreset, and with one candidate in each round."""
    vectors = clusters(arguments.vectors, 512)

    def select() -> Tensor:
        return module.coreset(vectors, arguments.selected, torch.Generator(device).manual_seed(0))

    module.coreset(vectors[:5000], 10, torch.Generator(device).manual_seed(0))  # to warm up
    work = f"{arguments.selected} of {arguments.vectors} vectors"
    rows = [[f"coreset, {work}", f"{seconds_of(select, device):.2f}"]]
    with mock.patch.object(module, "CANDIDATES", 1):
        rows.append(["the same with one candidate in each round", f"{seconds_of(select, device):.2f}"])
    return rows


def gaussian_rows(arguments: argparse.Namespace, device: torch.device) -> list[list[str]]:
    """Rows of the table: CDO's first fit and the third."""
    loaded = methods.load("cdo")
    method = loaded.build(loaded.config(), image_size=arguments.size, seed=0)
    method.to(device).to(memory_format=torch.channels_last)
    images = RandomImages(arguments.images, arguments.size, device)
    fit = method.stages()[0].fit_statistics
    assert fit is not None
    took = [seconds_of(lambda: fit(images), device) for _ in range(3)]  # type: ignore[arg-type]
    work = f"{arguments.images} images of {arguments.size}²"
    return [[f"CDO's Gaussians, first fit, {work}", f"{took[0]:.2f}"], [f"later fits, {work}", f"{took[2]:.2f}"]]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="such as cuda; default: a GPU if there is one")
    parser.add_argument("--vectors", type=int, default=50_000, help="vectors to select from")
    parser.add_argument("--selected", type=int, default=5_000, help="vectors to select")
    parser.add_argument("--images", type=int, default=96, help="normal images")
    parser.add_argument("--size", type=int, default=256, help="their side in pixels")
    arguments = parser.parse_args()
    device = torch.device(arguments.device) if arguments.device else default_device()
    rows = coreset_rows(arguments, device) + gaussian_rows(arguments, device)
    about = f"{machine(device)}, {torch.get_num_threads()} CPU threads"
    write_result(f"fits-{device.type}", "Fits to normal images", about, [table("| fit | seconds |", rows)])


if __name__ == "__main__":
    main()
