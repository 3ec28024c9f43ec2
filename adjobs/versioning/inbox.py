"""What is added to a data set: images with labels in any layout, read, checked and hashed before anything is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adjobs.data.checks.duplicates import Descriptor
from adjobs.data.checks.preflight import inspect_images
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.image_reading import DEFAULT_SCALE
from adjobs.data.labels.masks import Layers
from adjobs.data.open import open_dataset
from adjobs.data.problem import OUT_OF_MEMORY, Problem
from adjobs.data.reading import ReadOptions
from adjobs.data.versions.reading import FILES
from adjobs.data.versions.record import SetAside
from adjobs.data.walk import content_hash
from adjobs.errors import DataError
from adjobs.parallel import in_threads
from adjobs.storage import LocalStore, S3Store, Store, open_store

BATCH_LENGTH = 16
"""Hexadecimal digits of a batch's name."""


@dataclass(frozen=True)
class InboxSample:
    """An image that can be added.

    Attributes:
        name: of the image in its source.
        sample: with the keys that its files get in the data set.
        sources: its files, the image first, as ``sample.files``.
        hashes: SHA-256 of each.
        descriptor: for near duplicates.
    """

    name: str
    sample: Sample
    sources: tuple[Path, ...]
    hashes: tuple[str, ...]
    descriptor: Descriptor

    @property
    def digest(self) -> str:
        """SHA-256 of the image."""
        return self.hashes[0]


@dataclass(frozen=True)
class Inbox:
    """All that is read of a source.

    Attributes:
        batch: digest of the files; the same files are always written under the same keys.
        samples: those that can be used, sorted by name.
        set_aside: the others, with reasons.
    """

    batch: str
    samples: tuple[InboxSample, ...]
    set_aside: tuple[SetAside, ...]

    @property
    def hashes(self) -> dict[Path, str]:
        """SHA-256 of each file of the source."""
        return {path: digest for item in self.samples for path, digest in zip(item.sources, item.hashes, strict=True)}


def open_source(source: str, store: Store, format: str, cache: Path, options: ReadOptions) -> Dataset | None:
    """The data set in a folder or under an S3 prefix; None for a prefix without objects.

    Args:
        source: its address.
        store: of the data set that it is added to.
        format: its layout; ``auto`` recognises it.
        cache: folder into which S3 data is downloaded.
        options: how it is read.

    Raises:
        DataError: it does not exist, its layout cannot be read, or one of the two contains the other.
        StorageError: S3 does not answer.
    """
    if source.startswith("s3://"):
        inbox_store = open_store(source)
        _refuse_nested(source, inbox_store, store)
        if not options.require_normal and not inbox_store.list():
            return None
    dataset = open_dataset(source, format, cache=cache, options=options)
    if not source.startswith("s3://"):
        _refuse_nested(source, LocalStore(dataset.root), store)
    return dataset


def _refuse_nested(source: str, inbox: Store, store: Store) -> None:
    if isinstance(inbox, LocalStore) and isinstance(store, LocalStore):
        first, second = inbox.root.resolve(), store.root.resolve()
        is_nested = first.is_relative_to(second) or second.is_relative_to(first)
    else:
        first_uri, second_uri = f"{inbox.uri()}/", f"{store.uri()}/"
        is_same_kind = isinstance(inbox, S3Store) and isinstance(store, S3Store)
        is_nested = is_same_kind and (first_uri.startswith(second_uri) or second_uri.startswith(first_uri))
    if is_nested:
        raise DataError(f"{source}: overlaps with the data set {store.uri()}; neither may contain the other; move one of them")


def read_inbox(dataset: Dataset, *, progress: bool = False) -> Inbox:
    """Decode, check and hash all images and labels of a source.

    Raises:
        DataError: something is wrong with the source as a whole.
    """
    inspections, _ = inspect_images(dataset, DEFAULT_SCALE, progress)
    problems = [*dataset.problems, *(problem for inspection in inspections for problem in inspection.problems)]
    errors = [problem for problem in problems if problem.severity == "error"]
    if whole := [problem for problem in errors if not problem.sample or problem.kind == OUT_OF_MEMORY]:
        raise DataError(f"{dataset.root}: {whole[0].sample}{': ' if whole[0].sample else ''}{whole[0].message}")
    invalid = {problem.sample for problem in errors}
    valid = [
        (inspection.image.sample, inspection.image.descriptor)
        for inspection in inspections
        if inspection.image and inspection.image.sample.id not in invalid
    ]
    paths = list(dict.fromkeys(path for sample, _ in valid for path in sample.files))
    hashes = dict(zip(paths, in_threads(content_hash, paths, text="hashing", progress=progress), strict=True))
    batch = _batch_of(dataset.root, hashes)
    samples = (
        InboxSample(
            sample.id,
            in_batch(sample, dataset.root, batch),
            sample.files,
            tuple(hashes[path] for path in sample.files),
            descriptor,
        )
        for sample, descriptor in valid
    )
    return Inbox(batch, tuple(sorted(samples, key=lambda item: item.name)), _set_aside(errors))


def in_batch(sample: Sample, root: Path, batch: str) -> Sample:
    """The sample with the keys that its files get in the data set.

    Raises:
        DataError: a file is not in the folder of its data set.
    """

    def key(path: Path) -> Path:
        if not path.is_relative_to(root):
            raise DataError(f"{path}: is not in {root}; only files in a single folder can be added; move the file there")
        return Path(FILES, batch, path.relative_to(root))

    mask = sample.mask
    if isinstance(mask, Path):
        mask = key(mask)
    elif isinstance(mask, Layers):
        mask = Layers(tuple(map(key, mask.paths)), mask.kinds and key(mask.kinds))
    image = key(sample.image)
    blocks = sample.blocks and key(sample.blocks)
    return replace(sample, id=image.as_posix(), image=image, mask=mask, blocks=blocks)


def _batch_of(root: Path, hashes: Mapping[Path, str]) -> str:
    pairs = sorted(
        (path.relative_to(root).as_posix() if path.is_relative_to(root) else "", digest) for path, digest in hashes.items()
    )
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:BATCH_LENGTH]


def _set_aside(errors: Iterable[Problem]) -> tuple[SetAside, ...]:
    items = {SetAside(problem.sample, problem.kind, problem.message) for problem in errors}
    return tuple(sorted(items))
