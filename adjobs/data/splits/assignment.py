"""Which images train, which validate, which test: made by a protocol, stored with the run, or given back as a file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adjobs.data.dataset import Dataset, Sample
from adjobs.data.splits.protocols import Parts, find_protocol
from adjobs.errors import DataError, JobError, one_line
from adjobs.storage.base import beside, disk


@dataclass(frozen=True)
class SplitAssignment:
    """Sample ids by part, sorted. Samples in none of the parts are not used."""

    protocol: str
    seed: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The split as JSON holds it."""
        return {
            "protocol": self.protocol,
            "seed": self.seed,
            **{part: list(getattr(self, part)) for part in Parts._fields},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SplitAssignment:
        """The split that :meth:`to_dict` gave.

        Raises:
            DataError: a key is missing, or not what it should be.
        """
        try:
            parts = [tuple(sorted(_names(values[part]))) for part in Parts._fields]
            return cls(str(values["protocol"]), int(values["seed"]), *parts)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"stored split: {error!r}; needed are protocol, seed, train, val and test; store it again") from error


def _names(value: Any) -> list[str]:
    """A list of sample ids: a string would pass as a list of its letters."""
    if not isinstance(value, list | tuple):
        raise TypeError("train, val and test are lists of sample ids")
    return [str(name) for name in value]


def make_split(index: Dataset, protocol: str, *, max_train_anomalies: int | None = None, seed: int = 0) -> SplitAssignment:
    """Divide a data set.

    Args:
        index: the data set; unlabelled samples go to no part.
        protocol: one of ``PROTOCOLS``.
        max_train_anomalies: use only so many of the anomalous images that the protocol has for training; a larger number
            adds to a smaller.
        seed: not negative; equal seeds and ids give equal splits.

    Raises:
        JobError: no such protocol, or max_train_anomalies or seed are out of range.
        DataError: the data set has not what the protocol needs, or a part would lack a class.
    """
    divide = find_protocol(protocol)
    if seed < 0:
        raise JobError(f"seed is {seed}; allowed is 0 or more; choose another")
    labelled = sorted((s for s in index.samples if s.label != "unlabelled"), key=lambda sample: sample.id)
    parts = divide(replace(index, samples=tuple(labelled)), seed)
    anomalous = [sample for sample in parts.train if sample.label == "anomalous"]
    normal = [sample for sample in parts.train if sample.label == "normal"]
    parts = parts._replace(train=normal + _first(max_train_anomalies, anomalous, protocol))
    _refuse_empty(parts, f"protocol {protocol} would give")
    train, val, test = (tuple(sorted(sample.id for sample in part)) for part in parts)
    return SplitAssignment(protocol, seed, train, val, test)


def read_split(path: Path) -> SplitAssignment:
    """A split from the file that :func:`write_split` or a run stored.

    Raises:
        DataError: it cannot be read, or holds no split.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        got = error.strerror if isinstance(error, OSError) else one_line(error)
        raise DataError(f"split {path}: cannot be read ({got}); give a JSON file that 'adjobs data split' wrote") from error
    if not isinstance(document, dict):
        raise DataError(
            f"split {path}: holds {type(document).__name__}, needs a mapping with protocol, seed, train, val and test"
        )
    return SplitAssignment.from_dict(document)


def write_split(split: SplitAssignment, path: Path) -> None:
    """Write a split as a whole or not at all.

    Raises:
        StorageError: the disk refuses.
    """
    with disk("write", path), beside(path) as part:
        part.write_text(json.dumps(split.to_dict(), indent=1) + "\n", encoding="utf-8")


def check_split(index: Dataset, split: SplitAssignment, excluded: Iterable[str] = ()) -> SplitAssignment:
    """A stored split without the excluded samples, checked to fit the data set.

    Raises:
        DataError: it names samples that are not there or have no label, names one twice, or a part lacks a class.
    """
    gone = set(excluded)
    samples = {sample.id: sample for sample in index.samples if sample.label != "unlabelled"}
    counts = Counter(name for part in (split.train, split.val, split.test) for name in part)
    strange = [name for name in counts if name not in samples and name not in gone]
    if strange:
        got = f"{strange[0]} is no labelled sample of {index.root}" + (f" (nor {len(strange) - 1} more)" if strange[1:] else "")
        raise DataError(f"split: {got}; a split belongs to one data set; make another with 'adjobs data split'")
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise DataError(f"split: {twice[0]} is in it {counts[twice[0]]} times; an image belongs to one part; correct the file")
    parts = Parts(*([samples[name] for name in part if name in samples] for part in (split.train, split.val, split.test)))
    _refuse_empty(parts, "the split has")
    return SplitAssignment(split.protocol, split.seed, *(tuple(sample.id for sample in part) for part in parts))


def _first(limit: int | None, anomalous: list[Sample], protocol: str) -> list[Sample]:
    if limit is not None and not 0 <= limit <= len(anomalous):
        have = f"protocol {protocol} has {len(anomalous)} anomalous images for training"
        raise JobError(f"max_train_anomalies is {limit}; {have}; choose 0 to {len(anomalous)}, or label more")
    return anomalous[:limit]


def _refuse_empty(parts: Parts, got: str) -> None:
    counts = {name: Counter(sample.label for sample in part) for name, part in parts._asdict().items()}
    if all(count["normal"] for count in counts.values()) and counts["test"]["anomalous"]:
        return
    listed = ", ".join(f"{name} {count['normal']} normal and {count['anomalous']} anomalous" for name, count in counts.items())
    need = "each part needs a normal image and test an anomalous one too"
    raise DataError(f"{got} {listed}; {need}; add images or choose another protocol")


def normal_train_digest(index: Dataset, part: Iterable[str]) -> str:
    """Sha256 of the ids of the good pictures in a part: what was learnt from them may be used for the same ones only."""
    good = {sample.id for sample in index.samples if sample.label == "normal"}
    return hashlib.sha256(json.dumps(sorted(good & set(part))).encode()).hexdigest()
