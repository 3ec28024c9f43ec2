"""What a data set holds: its images with labels, masks, defect types and groups, and a fingerprint of all that."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adjobs.data.labels.masks import Box, Layers, Mask, Shapes, files_of
from adjobs.data.walk import content_hash
from adjobs.parallel import in_threads

Label = Literal["normal", "anomalous", "unlabelled"]


@dataclass(frozen=True)
class Sample:
    """One image with what is known of it.

    Attributes:
        id: posix path relative to the data set's root, unique in it.
        image: the file.
        label: what a person said of it.
        mask: the defect's pixels.
        defect: type of the defect; "" for normal images and where no type is known.
        group: board, part or camera; images of one group must not be divided between training and test.
        published_split: "train", "val" or "test".
        blocks: small grey image of a block grid, see :func:`adjobs.data.labels.masks.read_blocks`.
        boxes: rectangles around all defects, in pixels of the upright image; None where nobody drew any.
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
        return (self.image, *files_of(self.mask), *((self.blocks,) if self.blocks else ()))


@dataclass(frozen=True)
class Dataset:
    """A data set in a local folder; ``samples`` are sorted by id."""

    root: Path
    format: str
    samples: tuple[Sample, ...]


def fingerprint(index: Dataset, *, progress: bool = False) -> str:
    """Sha256 over all that is known of every sample, and the contents of its files.

    The folder's place has no part in it: the same data set on another machine has the same fingerprint.

    Raises:
        DataError: a file cannot be read.
    """
    paths = list(dict.fromkeys(path for sample in index.samples for path in sample.files))
    hashes = dict(zip(paths, in_threads(content_hash, paths, text="hashing", progress=progress), strict=True))
    total = hashlib.sha256()
    for s in sorted(index.samples, key=lambda sample: sample.id):
        drawn = s.mask if isinstance(s.mask, Shapes) else None
        row = [
            s.id,
            s.label,
            s.defect,
            s.group,
            s.published_split,
            s.boxes,
            drawn and vars(drawn),
            *(hashes[path] for path in s.files),
        ]
        # One file can be a mask or a block grid, and the last of several a mask or their kinds.
        row += [word for word, there in (("kinds", isinstance(s.mask, Layers) and s.mask.kinds), ("blocks", s.blocks)) if there]
        total.update(json.dumps(row).encode() + b"\n")
    return total.hexdigest()
