"""Annotation files that real tools wrote of a known scene (``tests/data/make``), with its images drawn where they belong."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from adjobs.data.dataset import Dataset, Sample
from adjobs.data.labels.masks import Box, read_mask
from tests.data.make import scene
from tests.helpers.datasets import open_folder

FILES = Path(__file__).parents[1] / "data" / "formats" / "files"
NAMES = (*scene.BOXES, "tagged")


def place_export(name: str, root: Path, images: str = "{name}.png", names: Iterable[str] = NAMES) -> Path:
    """Copy an export and draw the scene's images at these paths, where ``{split}`` is val for the image of two defects."""
    shutil.copytree(FILES / name, root)
    drawn = scene.draw(root.parent / "drawn")
    for image in names:
        path = root / images.format(name=image, split="val" if image == "two" else "train")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(drawn / ("empty.png" if image == "tagged" else f"{image}.png"), path)
    return root


def open_export(name: str, root: Path, images: str = "{name}.png", names: Iterable[str] = NAMES) -> Dataset:
    """The data set of an export, placed as by :func:`place_export`; the format is recognised."""
    return open_folder(place_export(name, root, images, names))


def differences(dataset: Dataset) -> dict[str, int]:
    """Number of pixels by which each mask differs from the scene, by image."""
    return {
        sample.image.stem: int((read_mask(sample.mask) ^ scene_mask(sample)).sum())
        for sample in dataset.samples
        if sample.mask is not None
    }


def scene_mask(sample: Sample) -> np.ndarray:
    """All defects of an image of the scene, ``(H, W)`` bool."""
    return np.any([mask for _, mask in scene.masks(sample.image.stem)], axis=0)


def boxes(dataset: Dataset) -> dict[str, list[tuple[float, ...]]]:
    """The boxes of each image that has some, left, top, right and bottom."""
    return {sample.image.stem: [tuple(box) for box in sample.boxes] for sample in dataset.samples if sample.boxes}


SCENE_BOXES = {name: [tuple(Box(*box)) for _, box in defects] for name, defects in scene.BOXES.items() if defects}
NO_DIFFERENCE = dict.fromkeys(("circle", "hole", "small", "square", "two"), 0)
ONLY_THE_HOLE = {**NO_DIFFERENCE, "hole": 36}
"""Differences where a tool's polygons have no holes."""


def labels(dataset: Dataset) -> dict[str, tuple[str, str, str | None]]:
    """Label, defect type and published split of each image."""
    return {sample.image.stem: (sample.label, sample.defect, sample.published_split) for sample in dataset.samples}


def scene_labels(*, splits: bool, names: Iterable[str] = NAMES) -> dict[str, tuple[str, str, str | None]]:
    """The labels of the scene, sorted; two defects of one image are named by the larger."""
    types = {"square": "scratch", "small": "dent", "circle": "stain", "hole": "crack", "two": "dent"}
    return {
        name: (
            "anomalous" if name in types else "normal",
            types.get(name, ""),
            ("val" if name == "two" else "train") if splits else None,
        )
        for name in sorted(names)
    }
