"""A data set in memory: its images with labels, masks, defect types and groups, and a fingerprint of all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adjobs.data.labels.masks import Box, Layers, Mask, Shapes, mask_files
from adjobs.data.problem import Problem
from adjobs.data.reading import DatasetVersion
from adjobs.data.walk import content_hash
from adjobs.errors import DataError
from adjobs.parallel import in_threads

Label = Literal["normal", "anomalous", "unlabelled"]


@dataclass(frozen=True)
class Sample:
    """One image and its labels.

    Attributes:
        id: posix path relative to the data set's root, unique in the data set.
        image: the image file.
        label: what a person decided about the whole image.
        mask: the pixels of the defect.
        defect: type of the defect; "" for normal images and where the type is unknown.
        group: board, workpiece or camera; images of one group should not be split between training and test.
        published_split: "train", "val" or "test", where the data set was published with splits.
        blocks: small grey image of a block grid, see :func:`adjobs.data.labels.masks.read_blocks`.
        boxes: rectangles around all defects, in pixels of the upright image; None if no boxes were drawn.
    """

    id: str
    image: Path
    label: Label
    mask: Mask | None = None
    defect: str = ""
    group: str | None = None
    published_split: str | None = None
    blocks: Path | None = None
    boxes: tuple[Box, ...] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the sample is read from, the image first."""
        return (self.image, *mask_files(self.mask), *((self.blocks,) if self.blocks else ()))


@dataclass(frozen=True)
class Dataset:
    """A data set in a local folder.

    Attributes:
        root: the folder.
        format: its layout.
        samples: sorted by id.
        problems: those that its reader found.
        normal_classes: names of classes that were taken to mean normal, each with its number of annotations.
        version: which of its versions this is; None for a data set without versions.
    """

    root: Path
    format: str
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...] = ()
    normal_classes: tuple[tuple[str, int], ...] = ()
    version: DatasetVersion | None = None


def fingerprint(dataset: Dataset, *, progress: bool = False) -> str:
    """Sha256 over every field of every sample and the contents of its files.

    The folder's path is not included: the same data set on another machine has the same fingerprint.

    Raises:
        DataError: a file cannot be read.
    """
    paths = _files(dataset)
    hashes = dict(zip(paths, in_threads(content_hash, paths, text="hashing", progress=progress), strict=True))
    return fingerprint_of(dataset.samples, hashes)


def fingerprint_or_problems(dataset: Dataset, *, progress: bool = False) -> tuple[str | None, list[Problem]]:
    """The fingerprint and no problems, or None and an error for each sample with a file that cannot be read."""

    def try_hash(path: Path) -> str | DataError:
        try:
            return content_hash(path)
        except DataError as error:
            return error

    paths = _files(dataset)
    results = dict(zip(paths, in_threads(try_hash, paths, text="hashing", progress=progress), strict=True))
    hashes = {path: result for path, result in results.items() if isinstance(result, str)}
    if len(hashes) == len(paths):
        return fingerprint_of(dataset.samples, hashes), []
    faults = ((sample, path) for sample in dataset.samples for path in sample.files if path not in hashes)
    return None, [Problem(sample.id, "unreadable", str(results[path])) for sample, path in faults]


def _files(dataset: Dataset) -> list[Path]:
    return list(dict.fromkeys(path for sample in dataset.samples for path in sample.files))


def fingerprint_of(samples: Iterable[Sample], hashes: Mapping[Path, str]) -> str:
    """The fingerprint of a data set whose files have these SHA-256."""
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.id):
        record = [
            sample.id,
            sample.label,
            sample.defect,
            sample.group,
            sample.published_split,
            sample.boxes,
            vars(sample.mask) if isinstance(sample.mask, Shapes) else None,
            *(hashes[path] for path in sample.files),
        ]
        # The last file may be a mask, the description of a mask's layers, or a block grid: say which.
        if isinstance(sample.mask, Layers) and sample.mask.kinds:
            record.append("kinds")
        if sample.blocks:
            record.append("blocks")
        digest.update(json.dumps(record).encode() + b"\n")
    return digest.hexdigest()
