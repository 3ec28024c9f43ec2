"""The two small documents of a data set with versions: its header, and the record of a version."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from adjobs.data.splits.protocols import SplitSamples

LAYOUT = 1
"""Number of the layout that this version of adjobs writes and reads."""

SPLITS = SplitSamples._fields


class Shares(NamedTuple):
    """What share of the images of a label goes to each split; the three add up to 1."""

    train: float
    val: float
    test: float

    def find_fault(self) -> str | None:
        """What is wrong with the shares; None if nothing is."""
        if all(0 <= share <= 1 for share in self) and math.isclose(sum(self), 1, abs_tol=1e-6):
            return None
        return f"got {' '.join(f'{share:g}' for share in self)}; give three numbers from 0 to 1 that add up to 1"


class SplitRule(NamedTuple):
    """How images that are added are assigned to splits.

    Attributes:
        seed: of the order in which they are assigned.
        normal: shares of normal images.
        anomalous: shares of anomalous images, of each defect type.
    """

    seed: int = 0
    normal: Shares = Shares(0.6, 0.2, 0.2)
    anomalous: Shares = Shares(0.5, 0.0, 0.5)


@dataclass(frozen=True)
class DatasetHeader:
    """What is decided when a data set is created, and never changes.

    Attributes:
        created_at: when, in UTC.
        rule: how images that are added are assigned to splits.
        source: what its first version was made of, as a digest of images, labels and splits; "" if it was created empty.
    """

    created_at: datetime
    rule: SplitRule
    source: str = ""

    def to_bytes(self) -> bytes:
        """The object that is stored."""
        document = {
            "layout": LAYOUT,
            "created_at": self.created_at.isoformat(),
            "source": self.source,
            "rule": {"seed": self.rule.seed, **{name: list(getattr(self.rule, name)) for name in ("normal", "anomalous")}},
        }
        return (json.dumps(document, indent=1) + "\n").encode()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatasetHeader:
        """The inverse of :meth:`to_bytes`; raises KeyError, TypeError or ValueError if it is something else."""
        rule = values["rule"]
        shares = {name: Shares(*map(float, rule[name])) for name in ("normal", "anomalous")}
        for item in shares.values():
            if fault := item.find_fault():
                raise ValueError(fault)
        return cls(_aware(values["created_at"]), SplitRule(int(rule["seed"]), **shares), str(values["source"]))


class SetAside(NamedTuple):
    """An image or label that was not taken in.

    Attributes:
        name: of the image in its source, or where the label stands.
        kind: one of a few fixed phrases, such as "truncated" or "conflicting labels".
        message: what is wrong and what to do.
    """

    name: str
    kind: str
    message: str


@dataclass(frozen=True)
class SplitCount:
    """Number of images of a split ("" for none) with this label and defect type ("" for none)."""

    split: str
    label: str
    defect: str
    count: int


@dataclass(frozen=True)
class VersionRecord:
    """A version of a data set. Records are numbered from 1, and never change.

    Attributes:
        number: of the version.
        created_at: when it was made, in UTC.
        author: who made it.
        message: why, in the words of the author, or "".
        added: number of images that it has and the version before has not.
        manifest: SHA-256 of the list of its images.
        fingerprint: of the data set that it is, as ``adjobs.data.dataset.fingerprint`` computes it.
        counts: of its images.
        updated: number of images whose labels it changed.
        duplicates: number of images that were in the data set already.
        set_aside: what was not taken in.
        source: address of what was added.
        token: random; no two records have the same.
    """

    number: int
    created_at: datetime
    author: str
    message: str
    added: int
    manifest: str = ""
    fingerprint: str = ""
    counts: tuple[SplitCount, ...] = ()
    updated: int = 0
    duplicates: int = 0
    set_aside: tuple[SetAside, ...] = ()
    source: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(count.count for count in self.counts)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            **asdict(self),
            "created_at": self.created_at.isoformat(),
            "set_aside": [item._asdict() for item in self.set_aside],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VersionRecord:
        """The inverse of :meth:`to_dict`; raises KeyError, TypeError or ValueError if it is something else."""
        return cls(
            number=int(values["number"]),
            author=str(values["author"]),
            message=str(values["message"]),
            added=int(values["added"]),
            manifest=str(values["manifest"]),
            fingerprint=str(values["fingerprint"]),
            updated=int(values["updated"]),
            duplicates=int(values["duplicates"]),
            source=str(values["source"]),
            token=str(values["token"]),
            created_at=_aware(values["created_at"]),
            counts=tuple(SplitCount(**{**count, "count": int(count["count"])}) for count in values["counts"]),
            set_aside=tuple(SetAside(**item) for item in values["set_aside"]),
        )

    def to_bytes(self) -> bytes:
        """The object that is stored."""
        return json.dumps(self.to_dict(), indent=1).encode()


def _aware(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
