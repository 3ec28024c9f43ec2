"""A data set with versions, as ``adjobs dataset`` keeps it; one of them is read."""

from __future__ import annotations

from pathlib import Path

from adjobs.data.dataset import Sample
from adjobs.data.labels.masks import Layers
from adjobs.data.reading import DatasetVersion, ReadContext
from adjobs.data.versions.reading import HEADER, read_header, read_manifest, read_record
from adjobs.storage import LocalStore

NAME = "versioned"
DESCRIPTION = "adjobs-dataset.json, as 'adjobs dataset create' writes it; data.version selects a version"


def recognises(root: Path) -> bool:
    """Whether there is the header of such a data set."""
    return (root / HEADER).is_file()


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples of the version that the options name, or else of the newest. A missing file is an error of its sample.

    Raises:
        DataError: there is no such version, or it is of a newer version of adjobs.
        DamagedError: header, record or list cannot be read.
    """
    store = LocalStore(root)
    read_header(store)
    record = read_record(store, context.options.version)
    context.version = DatasetVersion(record.number, record.fingerprint)
    samples: list[Sample] = []
    for entry in read_manifest(store, record):
        sample = _in_folder(entry.sample, root)
        if missing := [path for path in sample.files if not path.is_file()]:
            name = missing[0].relative_to(root).as_posix()
            context.error(sample.id, "unreadable", f"{name} is missing; restore it from a backup of the data set")
        samples.append(sample)
    return samples


def _in_folder(sample: Sample, root: Path) -> Sample:
    """The sample with paths in a folder."""
    mask = sample.mask
    if isinstance(mask, Path):
        mask = root / mask
    elif isinstance(mask, Layers):
        mask = Layers(tuple(root / path for path in mask.paths), mask.kinds and root / mask.kinds)
    blocks = sample.blocks and root / sample.blocks
    return Sample(**{**vars(sample), "image": root / sample.image, "mask": mask, "blocks": blocks})
