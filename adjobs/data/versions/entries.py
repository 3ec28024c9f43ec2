"""The list of a version's images: one line of JSON for each, as in a manifest, with checksums and where it came from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from adjobs.data.dataset import Label, Sample, fingerprint_of
from adjobs.data.manifest_lines import LineReader, write_line
from adjobs.data.versions.record import SPLITS, SplitCount
from adjobs.data.walk import resolve_inside

ROOT = Path()
"""Folder of the samples of an entry: their paths are keys of the data set's store."""

_OWN_KEYS = ("sha256", "hashes", "added", "assigned")


@dataclass(frozen=True)
class VersionedSample:
    """An image of a version.

    Attributes:
        sample: the image with its labels; paths are keys in the data set's store.
        hashes: SHA-256 of each of its files, the image first.
        added: number of the version that brought it.
        assigned: number of the version that gave it its split; 0 if it has none.
    """

    sample: Sample
    hashes: tuple[str, ...]
    added: int
    assigned: int = 0

    @property
    def id(self) -> str:
        """Of the image, unique in the data set."""
        return self.sample.id

    @property
    def label(self) -> Label:
        """Of the whole image."""
        return self.sample.label

    @property
    def defect(self) -> str:
        """Type of the defect; "" where there is none, or its type is unknown."""
        return self.sample.defect

    @property
    def split(self) -> str | None:
        """The split; None for images that are in none."""
        return self.sample.published_split

    @property
    def group(self) -> str | None:
        """Board, workpiece or camera."""
        return self.sample.group

    @property
    def digest(self) -> str:
        """SHA-256 of the image."""
        return self.hashes[0]

    @property
    def batch(self) -> str:
        """What the image was added with: the folder of its files."""
        return PurePosixPath(self.id).parts[1]

    def to_line(self) -> dict[str, Any]:
        """Ready for JSON."""
        own = {"sha256": self.hashes[0], "hashes": list(self.hashes[1:]), "added": self.added, "assigned": self.assigned}
        return write_line(self.sample, ROOT) | {key: value for key, value in own.items() if value}


def write_entries(entries: Iterable[VersionedSample]) -> bytes:
    """The list as it is stored, sorted by id: equal lists are equal bytes."""
    lines = [json.dumps(entry.to_line()) for entry in sorted(entries, key=lambda entry: entry.id)]
    return "".join(f"{line}\n" for line in lines).encode()


def read_entries(data: bytes) -> tuple[VersionedSample, ...]:
    """The inverse of :func:`write_entries`.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    reader = LineReader(ROOT, lambda name: resolve_inside(ROOT, name))
    return tuple(_read(json.loads(line), reader) for line in data.decode().splitlines())


def _read(values: dict[str, Any], reader: LineReader) -> VersionedSample:
    sample, faults = reader.read({key: value for key, value in values.items() if key not in _OWN_KEYS})
    if sample is None or faults:
        raise ValueError("; ".join(faults) or "a line names no image")
    hashes = (str(values["sha256"]), *map(str, values.get("hashes", ())))
    if len(hashes) != len(sample.files):
        raise ValueError(f"{sample.id} has {len(hashes)} checksums for {len(sample.files)} files")
    return VersionedSample(sample, hashes, int(values["added"]), int(values.get("assigned", 0)))


def fingerprint_of_entries(entries: Iterable[VersionedSample]) -> str:
    """What ``adjobs.data.dataset.fingerprint`` computes of the data set, without reading files."""
    entries = list(entries)
    hashes = {path: digest for entry in entries for path, digest in zip(entry.sample.files, entry.hashes, strict=True)}
    return fingerprint_of([entry.sample for entry in entries], hashes)


def count_entries(entries: Sequence[VersionedSample]) -> tuple[SplitCount, ...]:
    """Number of images by split, label and defect type, in the order of a table."""
    counts = Counter((entry.split or "", entry.label, entry.defect) for entry in entries)
    order = [*SPLITS, ""]
    keys = sorted(counts, key=lambda key: (order.index(key[0]), key[1] != "normal", key))
    return tuple(SplitCount(*key, counts[key]) for key in keys)
