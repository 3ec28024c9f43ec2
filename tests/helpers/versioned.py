"""Data sets with versions in folders, and what is added to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adjobs.config.settings import Settings
from adjobs.data.versions.record import SplitRule
from adjobs.versioning.adding import AddResult, add_to_dataset
from adjobs.versioning.creating import CreateResult, Origin, create_dataset
from adjobs.versioning.dataset import VersionedDataset, VersionedSample
from tests.helpers.drawing import save, texture

SIDE = 32


def settings_in(folder: Path) -> Settings:
    return Settings.from_env({"ADJOBS_HOME": str(folder / "home")})


def draw(root: Path, names: str, seed: int = 0) -> Path:
    """Images of these names between spaces, all different; equal seeds and names give equal images. Returns ``root``."""
    for number, name in enumerate(names.split()):
        save(root / name, texture(SIDE, np.random.default_rng([seed, number])))
    return root


def numbered(pattern: str, count: int) -> str:
    return " ".join(pattern.format(i) for i in range(count))


def create(folder: Path, source: Path | None = None, protocol: str | None = None, rule: SplitRule | None = None) -> CreateResult:
    """Create ``folder/set``."""
    origin = None if source is None else Origin(str(source), protocol=protocol)
    return create_dataset(
        str(folder / "set"), settings=settings_in(folder), author="ann", rule=rule or SplitRule(), origin=origin
    )


def add(folder: Path, source: Path | str, **options: Any) -> AddResult:
    """Add to ``folder/set``."""
    return add_to_dataset(str(folder / "set"), str(source), settings=settings_in(folder), author="ann", **options)


def open_set(folder: Path) -> VersionedDataset:
    return VersionedDataset.open(str(folder / "set"))


def by_name(dataset: VersionedDataset, number: int | None = None) -> Mapping[str, VersionedSample]:
    """The images of a version by their path in what they were added with."""
    return {entry.id.split("/", 2)[2]: entry for entry in dataset.samples(number)}


def draw_versioned(root: Path) -> Path:
    """A data set with two versions, of which the second has an unlabelled image. Returns ``root``."""
    from tests.helpers.drawing import draw_folder

    source = draw_folder(root.parent / f"{root.name}-source", 15, 5, SIDE)
    settings = settings_in(root.parent)
    create_dataset(str(root), settings=settings, author="ann", rule=SplitRule(), origin=Origin(str(source)))
    inbox = draw(root.parent / f"{root.name}-inbox", "new.png", seed=9)
    add_to_dataset(str(root), str(inbox), settings=settings, author="ann")
    return root
