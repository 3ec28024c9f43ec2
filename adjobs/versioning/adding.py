"""Add images and labels to a data set, as a new version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict, Unpack

from adjobs.config.settings import Settings
from adjobs.data.dataset import Dataset
from adjobs.data.image_reading import DEFAULT_SCALE, PixelScale
from adjobs.data.importing import copy_files, is_copy
from adjobs.data.problem import LOST_LABELS
from adjobs.data.reading import NORMAL_CLASSES, ReadOptions
from adjobs.data.versions.entries import count_entries
from adjobs.data.versions.reading import FILES
from adjobs.errors import DataError, StorageError
from adjobs.parallel import in_threads
from adjobs.storage import Store
from adjobs.versioning.dataset import SetAside, SplitCount, VersionedDataset, VersionRecord
from adjobs.versioning.descriptors import DescriptorReader, write_descriptors
from adjobs.versioning.inbox import EMPTY, Inbox, absolute_address, open_source, read_inbox
from adjobs.versioning.planning import plan_addition

ATTEMPTS = 20
"""Writers that may add a version between the reading and the writing of one, before it gives up."""


@dataclass(frozen=True)
class AddResult:
    """What was added, or would be.

    Attributes:
        version: the new version; None if there is nothing new, or nothing was to be written.
        latest: the newest version; None if the data set is empty.
        added: number of new images.
        updated: number of images whose labels changed.
        duplicates: number of images that add nothing.
        set_aside: what was not taken in.
        counts: of the images of the version, or of what it would be.
    """

    version: VersionRecord | None
    latest: VersionRecord | None
    added: int
    updated: int
    duplicates: int
    set_aside: tuple[SetAside, ...]
    counts: tuple[SplitCount, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "version": self.version.number if self.version else None,
            "latest": self.latest.to_dict() if self.latest else None,
            "added": self.added,
            "updated": self.updated,
            "duplicates": self.duplicates,
            "set_aside": [item._asdict() for item in self.set_aside],
            "counts": [asdict(count) for count in self.counts],
        }


class AddOptions(TypedDict, total=False):
    """How something is added; all may be left out.

    Attributes:
        message: why.
        format: layout of the source; ``auto`` recognises it.
        relabel: replace labels of the data set where the source has others.
        dry_run: write nothing.
        progress: show progress bars on a terminal's standard error.
        normal_classes: names of classes and choices that mean normal.
        follow_links: whether symbolic links may lead out of the source.
        scale: how images of more than 8 bits are read for the checks.
    """

    message: str
    format: str
    relabel: bool
    dry_run: bool
    progress: bool
    normal_classes: tuple[str, ...]
    follow_links: bool
    scale: PixelScale


def add_to_dataset(uri: str, source: str, *, settings: Settings, author: str, **options: Unpack[AddOptions]) -> AddResult:
    """Add the images and labels of a folder or S3 prefix to a data set.

    What is in the data set already is skipped, what cannot be used is set aside, and everything else becomes one new version.
    Killed at any moment, the same call completes it. Of several writers at once, each adds a version of its own.

    Args:
        uri: of the data set.
        source: folder, ``file://`` or ``s3://`` address.
        settings: where the cache is.
        author: who adds.
        options: see :class:`AddOptions`.

    Raises:
        DataError: there is no such data set or source, or one contains the other.
        StorageError: the storage does not answer, or a document of the data set is damaged.
    """
    dataset = VersionedDataset.open(uri)
    inbox = _read_source(source, dataset.store, settings.cache, options)
    descriptors = DescriptorReader(dataset.store, settings.cache)
    for _ in range(ATTEMPTS):
        latest = dataset.latest()
        if latest is None and dataset.header.source:
            raise DataError(f"{dataset.uri}: its first version is not complete; run the same 'adjobs dataset create' again first")
        entries = dataset.samples(latest.number) if latest else ()
        number = latest.number + 1 if latest else 1
        plan = plan_addition(entries, number, inbox, dataset.header, descriptors, relabel=options.get("relabel", False))
        result = AddResult(
            version=None,
            latest=latest,
            added=plan.added,
            updated=plan.updated,
            duplicates=plan.duplicates,
            set_aside=plan.set_aside,
            counts=count_entries(plan.entries),
        )
        if options.get("dry_run") or not plan.added + plan.updated:
            return result
        write_batch(dataset.store, inbox, plan.uploads, progress=options.get("progress", False))
        draft = _draft(result, number, author, options.get("message", ""), source)
        record = dataset.append(draft, plan.entries)
        if record is not None:
            return replace(result, version=record, latest=record)
    raise StorageError(
        f"{dataset.uri}: others added {ATTEMPTS} versions meanwhile; nothing was added; run the same command again"
    )


def _read_source(source: str, store: Store, cache: Path, options: AddOptions) -> Inbox:
    reading = ReadOptions(options.get("normal_classes", NORMAL_CLASSES), options.get("follow_links", False), require_normal=False)
    opened = open_source(source, store, options.get("format", "auto"), cache, reading)
    if opened is None:
        return EMPTY
    _refuse_lost_labels(source, opened)
    return read_inbox(opened, scale=options.get("scale", DEFAULT_SCALE), progress=options.get("progress", False))


def _refuse_lost_labels(source: str, opened: Dataset) -> None:
    """Refuse an export without a single annotation: its images would be trained on as normal, and nobody may see the warning."""
    for problem in opened.problems:
        if problem.kind == LOST_LABELS:
            advice = "put images that are normal into a folder good/, or list them in a manifest"
            raise DataError(f"{source}: {problem.message}; {advice}; nothing was added")


def _draft(result: AddResult, number: int, author: str, message: str, source: str) -> VersionRecord:
    """The record of a result, without what follows from its images."""
    return VersionRecord(
        number=number,
        created_at=datetime.now(UTC),
        author=author,
        message=message,
        added=result.added,
        updated=result.updated,
        duplicates=result.duplicates,
        set_aside=result.set_aside,
        source=absolute_address(source),
    )


def write_batch(store: Store, inbox: Inbox, uploads: Mapping[str, Path], *, progress: bool = False) -> None:
    """Store files of an inbox, except those that an interrupted attempt has stored, and the descriptors of all its images.

    Args:
        store: of the data set.
        inbox: what is added.
        uploads: files to copy, by their keys.
        progress: show progress bars on a terminal's standard error.

    Raises:
        DataError: a file changed since it was read.
        StorageError: the store cannot be written.
    """
    stored = {entry.key: entry for entry in store.list(f"{FILES}/{inbox.batch}")}

    def is_stored(key: str) -> bool:
        path = uploads[key]
        return key in stored and is_copy(store, stored[key], path, hashes[path])

    keys, hashes = list(uploads), inbox.hashes
    flags = in_threads(is_stored, keys, text="comparing", progress=progress and bool(stored))
    missing = {key: uploads[key] for key, flag in zip(keys, flags, strict=True) if not flag}
    copy_files(store, missing, hashes, prefix=f"{FILES}/{inbox.batch}", progress=progress)
    write_descriptors(store, inbox.batch, inbox.descriptors)
