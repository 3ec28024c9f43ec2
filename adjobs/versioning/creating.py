"""Create a data set with versions: empty, or from an existing data set whose splits are kept from then on."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from adjobs.config.settings import Settings
from adjobs.data.dataset import Dataset
from adjobs.data.image_reading import DEFAULT_SCALE, PixelScale
from adjobs.data.reading import DEFAULT_OPTIONS, ReadOptions
from adjobs.data.splits.assignment import make_split
from adjobs.data.splits.protocols import default_protocol
from adjobs.data.versions.entries import VersionedSample
from adjobs.data.versions.reading import HEADER, is_versioned, read_header
from adjobs.data.versions.record import SPLITS, DatasetHeader, SetAside, SplitRule, VersionRecord
from adjobs.errors import DataError, JobError
from adjobs.storage import Store, open_store
from adjobs.versioning.adding import write_batch
from adjobs.versioning.dataset import VersionedDataset
from adjobs.versioning.inbox import Inbox, InboxSample, absolute_address, open_source, read_inbox
from adjobs.versioning.merging import CONFLICT, find_disagreements


@dataclass(frozen=True)
class Origin:
    """The data set that the first version is made of.

    Attributes:
        source: folder, ``file://`` or ``s3://`` address.
        format: its layout; ``auto`` recognises it.
        protocol: how it is split; None is its published splits if it has any, else ``holdout``.
        options: how it is read.
        scale: how images of more than 8 bits are read for the checks.
    """

    source: str
    format: str = "auto"
    protocol: str | None = None
    options: ReadOptions = DEFAULT_OPTIONS
    scale: PixelScale = DEFAULT_SCALE


@dataclass(frozen=True)
class CreateResult:
    """What was created.

    Attributes:
        uri: of the data set.
        version: its first version; None if it is empty.
        is_new: False if all of it existed already.
    """

    uri: str
    version: VersionRecord | None
    is_new: bool

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        version = self.version.to_dict() if self.version else None
        return {"uri": self.uri, "version": version, "is_new": self.is_new}


def create_dataset(
    uri: str, *, settings: Settings, author: str, rule: SplitRule, origin: Origin | None = None, progress: bool = False
) -> CreateResult:
    """Create a data set. Killed at any moment, the same call completes it.

    Args:
        uri: folder, ``file://`` or ``s3://`` address at which nothing else is.
        settings: where the cache is.
        author: who creates it.
        rule: how images that are added later are assigned to splits.
        origin: what the first version is made of; None leaves the data set empty.
        progress: show progress bars on a terminal's standard error.

    Raises:
        DataError: something else is there; the source cannot be read or split, or one contains the other.
        JobError: shares or protocol are wrong.
        StorageError: the storage does not answer.
    """
    _check_rule(rule)
    store = open_store(uri)
    if origin is None:
        header, is_new = _write_header(store, DatasetHeader(datetime.now(UTC), rule))
        return CreateResult(store.uri(), VersionedDataset(store, header).latest(), is_new)
    opened = open_source(origin.source, store, origin.format, settings.cache, origin.options)
    if opened is None:
        raise DataError(f"{origin.source}: contains no images; leave out --from to create an empty data set")
    unsplit, duplicates = _without_copies(read_inbox(opened, scale=origin.scale, progress=progress))
    inbox = _with_splits(opened, unsplit, origin.protocol, rule.seed)
    header, is_new = _write_header(store, DatasetHeader(datetime.now(UTC), rule, _digest(inbox)))
    dataset = VersionedDataset(store, header)
    if not is_new and dataset.latest() is not None:
        return CreateResult(store.uri(), dataset.record(1), is_new=False)
    draft = VersionRecord(
        number=1,
        created_at=datetime.now(UTC),
        author=author,
        message="",
        added=len(inbox.samples),
        duplicates=duplicates,
        set_aside=inbox.set_aside,
        source=absolute_address(origin.source),
    )
    files = [pair for item in inbox.samples for pair in zip(item.sample.files, item.sources, strict=True)]
    write_batch(store, inbox, {key.as_posix(): path for key, path in files}, progress=progress)
    record = dataset.append(draft, _entries(inbox))
    return CreateResult(store.uri(), record or dataset.record(1), record is not None)


def _entries(inbox: Inbox) -> tuple[VersionedSample, ...]:
    return tuple(
        VersionedSample(item.sample, item.hashes, added=1, assigned=0 if item.sample.published_split is None else 1)
        for item in inbox.samples
    )


def _check_rule(rule: SplitRule) -> None:
    for name in ("normal", "anomalous"):
        if fault := getattr(rule, name).find_fault():
            raise JobError(f"shares of {name} images: {fault}")


def _write_header(store: Store, header: DatasetHeader) -> tuple[DatasetHeader, bool]:
    """The header as it is stored, and whether it is new.

    Raises:
        DataError: the store holds something else, or a data set that was created otherwise.
    """
    if not is_versioned(store):
        if others := store.list():
            raise DataError(
                f"{store.uri()}: is not empty ({others[0].key}); choose another address, and name this one with --from"
            )
        if store.create(HEADER, header.to_bytes()):
            return header, True
    stored = read_header(store)
    if replace(stored, created_at=header.created_at) != header:
        difference = "another split rule" if stored.rule != header.rule else "other data, or none"
        raise DataError(
            f"{store.uri()}: holds a data set that was created with {difference}; it cannot be created again; add to it with "
            "'adjobs dataset add', or choose another address"
        )
    return stored, False


def _without_copies(inbox: Inbox) -> tuple[Inbox, int]:
    """One image of those with the same content, and the number of others: that of the last published split, as in the checks."""
    copies: dict[str, list[InboxSample]] = defaultdict(list)
    for item in inbox.samples:
        copies[item.digest].append(item)
    kept: list[InboxSample] = []
    set_aside: list[SetAside] = []
    for members in copies.values():
        if len({item.sample.label for item in members} - {"unlabelled"}) > 1:
            names = ", ".join(item.name for item in members[:3])
            message = (
                f"has the same content as others with another label ({names}); an image has one label; remove the wrong ones"
            )
            set_aside.extend(SetAside(item.name, CONFLICT, message) for item in members)
        elif disagreements := find_disagreements(members):
            set_aside.extend(disagreements)
        else:
            kept.append(max(members, key=_rank))
    duplicates = len(inbox.samples) - len(kept) - len(set_aside)
    samples = tuple(sorted(kept, key=lambda item: item.name))
    return replace(inbox, samples=samples, set_aside=tuple(sorted([*inbox.set_aside, *set_aside]))), duplicates


def _rank(item: InboxSample) -> tuple[bool, int]:
    split = item.sample.published_split
    return item.sample.label != "unlabelled", SPLITS.index(split) if split in SPLITS else -1


def _with_splits(dataset: Dataset, inbox: Inbox, protocol: str | None, seed: int) -> Inbox:
    """The inbox with the splits that a protocol gives."""
    names = {item.name for item in inbox.samples}
    valid = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.id in names))
    split = make_split(valid, protocol or default_protocol(valid), seed=seed)
    split_of = {name: split_name for split_name in SPLITS for name in getattr(split, split_name)}
    return replace(
        inbox,
        samples=tuple(
            replace(item, sample=replace(item.sample, published_split=split_of.get(item.name))) for item in inbox.samples
        ),
    )


def _digest(inbox: Inbox) -> str:
    """Digest of all images, labels and splits."""
    lines: Sequence[Any] = [VersionedSample(item.sample, item.hashes, 1).to_line() for item in inbox.samples]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()
