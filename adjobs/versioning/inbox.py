"""What is added to a data set: images with labels in any layout, read, checked and hashed before anything is written."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adjobs.data.checks.duplicates import Descriptor
from adjobs.data.checks.preflight import inspect_images
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.image_reading import DEFAULT_SCALE, PixelScale
from adjobs.data.labels.masks import Layers
from adjobs.data.open import INSTALLED, open_dataset
from adjobs.data.problem import OUT_OF_MEMORY, Problem
from adjobs.data.reading import ReadOptions
from adjobs.data.versions.reading import FILES
from adjobs.data.versions.record import SetAside
from adjobs.data.walk import content_hash, files_under
from adjobs.errors import DataError
from adjobs.parallel import in_threads
from adjobs.storage import LocalStore, S3Store, Store, open_store

log = logging.getLogger(__name__)

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
        descriptors: of all images of the batch, by their SHA-256.
    """

    batch: str
    samples: tuple[InboxSample, ...]
    set_aside: tuple[SetAside, ...]
    descriptors: Mapping[str, Descriptor]

    @property
    def hashes(self) -> dict[Path, str]:
        """SHA-256 of each file of the source."""
        return {path: digest for item in self.samples for path, digest in zip(item.sources, item.hashes, strict=True)}


EMPTY = Inbox("", (), (), {})


def open_source(source: str, store: Store, format: str, cache: Path, options: ReadOptions) -> Dataset | None:
    """The data set in a folder or under an S3 prefix; None if it holds no files and need not hold normal images.

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
        is_empty = not inbox_store.list()
    else:
        is_empty = is_local(source) and _is_empty(Path(open_store(source).uri()))
    if is_empty and not options.require_normal:
        return None
    dataset = open_dataset(source, format, cache=cache, options=options)
    if not source.startswith("s3://"):
        _refuse_nested(source, LocalStore(dataset.root), store)
    return dataset


def is_local(source: str) -> bool:
    """Whether an address is that of a local folder."""
    return source != INSTALLED and bool(source.strip()) and ("://" not in source or source.startswith("file:///"))


def absolute_address(source: str) -> str:
    """The address of a source as it is recorded: others work in other folders."""
    return open_store(source).uri() if is_local(source) else source


def _is_empty(folder: Path) -> bool:
    """Whether a folder exists and has no files but hidden ones."""
    return folder.is_dir() and not files_under(folder, lambda path: not path.name.startswith("."))


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


def read_inbox(dataset: Dataset, *, scale: PixelScale = DEFAULT_SCALE, progress: bool = False) -> Inbox:
    """Decode, check and hash all images and labels of a source. Warnings about the source as a whole are logged.

    Args:
        dataset: the source.
        scale: how images of more than 8 bits are read for the checks; the files are kept as they are.
        progress: show progress bars on a terminal's standard error.

    Raises:
        DataError: something is wrong with the source as a whole.
    """
    for problem in dataset.problems:
        if problem.severity == "warning" and not problem.sample:
            log.warning("%s: %s", dataset.root, problem.message)
    inspections, _ = inspect_images(dataset, scale, progress)
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
    samples = [
        InboxSample(
            sample.id,
            in_batch(sample, dataset.root, batch),
            sample.files,
            tuple(hashes[path] for path in sample.files),
            descriptor,
        )
        for sample, descriptor in valid
    ]
    samples.sort(key=lambda item: item.name)
    return Inbox(batch, tuple(samples), _set_aside(errors), {item.digest: item.descriptor for item in samples})


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
