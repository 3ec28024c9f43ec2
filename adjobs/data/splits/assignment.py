"""The assignment of samples to splits: made by a protocol, stored with the run, and read from a file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adjobs.data.dataset import Dataset, Sample
from adjobs.data.splits.protocols import SplitSamples, find_protocol
from adjobs.errors import DataError, JobError, one_line
from adjobs.storage.base import atomic_write, disk_errors


@dataclass(frozen=True)
class SplitAssignment:
    """Sample ids of each split, sorted. Samples in none of the splits are not used."""

    protocol: str
    seed: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-serialisable mapping."""
        return {
            "protocol": self.protocol,
            "seed": self.seed,
            **{name: list(getattr(self, name)) for name in SplitSamples._fields},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SplitAssignment:
        """The inverse of :meth:`to_dict`.

        Raises:
            DataError: a key is missing or has an invalid value.
        """
        try:
            splits = [tuple(sorted(_sample_ids(values[name]))) for name in SplitSamples._fields]
            return cls(str(values["protocol"]), int(values["seed"]), *splits)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"stored split: {error!r}; it must have protocol, seed, train, val and test; store it again"
            ) from error


def _sample_ids(value: Any) -> list[str]:
    # Without this check, a string would be taken for a list of its letters.
    if not isinstance(value, list | tuple):
        raise TypeError("train, val and test must be lists of sample ids")
    return [str(name) for name in value]


def make_split(dataset: Dataset, protocol: str, *, max_train_anomalies: int | None = None, seed: int = 0) -> SplitAssignment:
    """Split a data set.

    Args:
        dataset: the data set; unlabelled samples are assigned to no split.
        protocol: one of ``PROTOCOLS``.
        max_train_anomalies: number of anomalous images to use for training, of those that the protocol provides; a larger
            number includes the images of a smaller one.
        seed: not negative; equal seeds and ids give equal splits.

    Raises:
        JobError: the protocol is unknown, or max_train_anomalies or seed is out of range.
        DataError: the data set lacks what the protocol needs, a split would have no normal image, or test no anomalous one
            although there are some.
    """
    assign = find_protocol(protocol)
    if seed < 0:
        raise JobError(f"seed is {seed}; it must be 0 or more; choose another")
    labelled = sorted((s for s in dataset.samples if s.label != "unlabelled"), key=lambda sample: sample.id)
    splits = assign(replace(dataset, samples=tuple(labelled)), seed)
    anomalous = [sample for sample in splits.train if sample.label == "anomalous"]
    normal = [sample for sample in splits.train if sample.label == "normal"]
    splits = splits._replace(train=normal + _limit_anomalies(anomalous, max_train_anomalies, protocol))
    _refuse_empty(splits, any(sample.label == "anomalous" for sample in labelled), f"protocol {protocol} would give")
    train, val, test = (tuple(sorted(sample.id for sample in samples)) for samples in splits)
    return SplitAssignment(protocol, seed, train, val, test)


def read_split(path: Path) -> SplitAssignment:
    """Read a split from a file that :func:`write_split` or a run wrote.

    Raises:
        DataError: the file cannot be read, or does not contain a split.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise DataError(f"split {path}: cannot be read ({reason}); use a JSON file written by 'adjobs data split'") from error
    if not isinstance(document, dict):
        raise DataError(
            f"split {path}: contains a {type(document).__name__}; expected a mapping with protocol, seed, train, val and test"
        )
    return SplitAssignment.from_dict(document)


def is_split(path: Path) -> bool:
    """Whether a file contains a split."""
    try:
        read_split(path)
    except DataError:
        return False
    return True


def write_split(split: SplitAssignment, path: Path) -> None:
    """Write a split to a file atomically.

    Raises:
        StorageError: the file cannot be written.
    """
    with disk_errors("write", path), atomic_write(path) as temporary:
        temporary.write_text(json.dumps(split.to_dict(), indent=1) + "\n", encoding="utf-8")


def check_split(dataset: Dataset, split: SplitAssignment, excluded: Iterable[str] = ()) -> SplitAssignment:
    """A stored split without the excluded samples, checked to fit the data set.

    Raises:
        DataError: the split has samples that do not exist or are unlabelled, repeats a sample, or has no normal image in one of
            its parts, or anomalous ones but none for test.
    """
    excluded_ids = set(excluded)
    samples = {sample.id: sample for sample in dataset.samples if sample.label != "unlabelled"}
    counts = Counter(name for ids in (split.train, split.val, split.test) for name in ids)
    unknown = [name for name in counts if name not in samples and name not in excluded_ids]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if unknown[1:] else ""
        raise DataError(
            f"split: {unknown[0]} is not a labelled sample of {dataset.root}{more}; a split belongs to one data set; "
            "make another with 'adjobs data split'"
        )
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise DataError(
            f"split: {repeated[0]} is listed {counts[repeated[0]]} times; an image belongs to one split; fix the file"
        )
    splits = SplitSamples(*([samples[name] for name in ids if name in samples] for ids in (split.train, split.val, split.test)))
    _refuse_empty(splits, any(sample.label == "anomalous" for members in splits for sample in members), "the split has")
    return SplitAssignment(split.protocol, split.seed, *(tuple(sample.id for sample in members) for members in splits))


def _limit_anomalies(anomalous: list[Sample], limit: int | None, protocol: str) -> list[Sample]:
    if limit is not None and not 0 <= limit <= len(anomalous):
        raise JobError(
            f"max_train_anomalies is {limit}; protocol {protocol} has {len(anomalous)} anomalous images for training; "
            f"choose 0 to {len(anomalous)}, or label more"
        )
    return anomalous[:limit]


def _refuse_empty(splits: SplitSamples, has_anomalies: bool, subject: str) -> None:
    """Refuse splits without normal images, and a test without the anomalous images that there are.

    Normal images alone train a model, too; its test measures false alarms.
    """
    counts = {name: Counter(sample.label for sample in samples) for name, samples in splits._asdict().items()}
    if all(count["normal"] for count in counts.values()) and (counts["test"]["anomalous"] or not has_anomalies):
        return
    listed = ", ".join(f"{name} {count['normal']} normal and {count['anomalous']} anomalous" for name, count in counts.items())
    also = " and test also an anomalous one" if has_anomalies else ""
    raise DataError(f"{subject} {listed}; each split needs a normal image{also}; add images or choose another protocol")


def normal_train_digest(dataset: Dataset, train_ids: Iterable[str]) -> str:
    """Sha256 of the ids of the normal training images: what was learnt from them may only be reused with the same images."""
    normal = {sample.id for sample in dataset.samples if sample.label == "normal"}
    return hashlib.sha256(json.dumps(sorted(normal & set(train_ids))).encode()).hexdigest()
