"""Which images train, which validate, which test: seeded protocols by name, the same for any order of files."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from adjobs.data.index import Index, Sample
from adjobs.errors import DataError, JobError, choices

Item = TypeVar("Item")

LIAC_POOL = 80
"""Anomalies reserved for training at most (LIAC, table I)."""


@dataclass(frozen=True)
class Split:
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
    def from_dict(cls, values: Mapping[str, Any]) -> Split:
        """The split that :meth:`to_dict` gave.

        Raises:
            DataError: a key is missing.
        """
        try:
            parts = [tuple(map(str, values[part])) for part in Parts._fields]
            return cls(str(values["protocol"]), int(values["seed"]), *parts)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"stored split: {error!r}; needed are protocol, seed, train, val and test; store it again") from error


class Parts(NamedTuple):
    """What a protocol gives. Of the anomalous samples in ``train`` the first k are used, in their order."""

    train: list[Sample]
    val: list[Sample]
    test: list[Sample]


Protocol = Callable[[list[Sample], int], Parts]
"""Takes the labelled samples, sorted by id, and a seed."""


def make_split(index: Index, protocol: str, *, k: int | None = None, seed: int = 0) -> Split:
    """Divide a data set.

    Args:
        index: the data set; unlabelled samples go to no part.
        protocol: one of ``PROTOCOLS``.
        k: use only so many of the anomalous images that the protocol has for training; a larger k adds to a smaller.
        seed: not negative; equal seeds and ids give equal splits.

    Raises:
        JobError: no such protocol, or k or seed are out of range.
        DataError: the data set has not what the protocol needs, or a part would lack a class.
    """
    divide = find_protocol(protocol)
    if seed < 0:
        raise JobError(f"seed is {seed}; allowed is 0 or more; choose another")
    samples = sorted((s for s in index.samples if s.label != "unlabelled"), key=lambda sample: sample.id)
    parts = divide(samples, seed)
    parts = parts._replace(train=_normal(parts.train) + _first(k, _anomalous(parts.train), protocol))
    _refuse_empty(parts, protocol)
    train, val, test = (tuple(sorted(sample.id for sample in part)) for part in parts)
    return Split(protocol, seed, train, val, test)


def find_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        JobError: there is none.
    """
    if name not in PROTOCOLS:
        raise JobError(f"{name}: no such protocol; {choices(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def official(samples: list[Sample], seed: int) -> Parts:
    """The published parts; where none is for validation, a fifth of the normal training images (at least one).

    Raises:
        DataError: the data set has no published parts.
    """
    parts = Parts(*([sample for sample in samples if sample.part == name] for name in Parts._fields))
    if not any(parts):
        others = ", ".join(sorted(PROTOCOLS.keys() - {"official"}))
        raise DataError(f"protocol official: the data set has no published parts (the layout mvtec has); choose one of {others}")
    if parts.val:
        return parts._replace(train=_normal(parts.train) + _shuffled(_anomalous(parts.train), seed, 1))
    train = _shuffled(_anomalous(parts.train), seed, 1)
    val: list[Sample] = []
    wanted = max(1, round(len(_normal(parts.train)) / 5))
    for unit in _shuffled(_units(_normal(parts.train)), seed, 0):
        (val if len(val) < wanted else train).extend(unit)
    return Parts(train, val, parts.test)


def holdout(samples: list[Sample], seed: int) -> Parts:
    """Normal images 60/20/20 per cent, anomalous 20/40/40 of each defect type; a group goes to one part as a whole.

    Units (groups, or single images) are dealt one by one to the part that lags furthest behind its share. A group with
    anomalous images is dealt with the defect type that most of them have.
    """
    parts = Parts([], [], [])
    strata: dict[str, list[list[Sample]]] = defaultdict(list)
    normal_units: list[list[Sample]] = []
    for unit in _units(samples):
        defects = Counter(sample.defect for sample in _anomalous(unit))
        (strata[min(defects, key=lambda name: (-defects[name], name))] if defects else normal_units).append(unit)
    # Type after type in one go, so that many types with one image each do not all land in the same part.
    dealt = [unit for name in sorted(strata) for unit in _large_first(strata[name], seed, 1, _number(name))]
    _deal(dealt, "anomalous", (1, 2, 2), parts)
    _deal(_large_first(normal_units, seed, 0), "normal", (3, 1, 1), parts)
    return parts._replace(train=_normal(parts.train) + _shuffled(_anomalous(parts.train), seed, 2))


def liac(samples: list[Sample], seed: int) -> Parts:
    """LIAC's protocol (table I): normal images 6:2:2; up to 80 anomalies reserved for training, the rest 5:5.

    The paper gives sizes only. Those of magnetic tiles (571/190/191 and 154/158) and ELPV (904/301/303 and 517/519)
    follow exactly from: normal shares rounded down, the rest in test; the reserve filled from each defect type in turn,
    so equally; of each type's rest the smaller half in validation. At most half of a type is reserved, so that small
    data sets can test. Groups are not regarded, since the published sizes need single images.
    """
    normals = _shuffled(_normal(samples), seed, 0)
    train_end, val_end = (len(normals) * 6 // 10, len(normals) * 6 // 10 + len(normals) * 2 // 10)
    parts = Parts(normals[:train_end], normals[train_end:val_end], normals[val_end:])
    types = {name: _shuffled(found, seed, 1, _number(name)) for name, found in sorted(_by_defect(samples).items())}
    turns = [(turn, name) for name, found in types.items() for turn in range(len(found) // 2)]
    reserved = sorted(turns)[:LIAC_POOL]
    parts.train.extend(types[name][turn] for turn, name in reserved)
    taken = Counter(name for _, name in reserved)
    for name, found in types.items():
        rest = found[taken[name] :]
        parts.val.extend(rest[: len(rest) // 2])
        parts.test.extend(rest[len(rest) // 2 :])
    return parts


PROTOCOLS: dict[str, Protocol] = {"official": official, "holdout": holdout, "liac": liac}


def _deal(units: Iterable[list[Sample]], label: str, shares: tuple[int, int, int], parts: Parts) -> None:
    """Give each unit to the part that lags furthest behind its share of the images with this label."""
    got = [sum(sample.label == label for sample in part) for part in parts]
    for unit in units:
        weight = sum(sample.label == label for sample in unit)
        due = sum(got) + weight
        # In whole numbers: with fractions, rounding would decide between equal parts.
        lags = [share * due - sum(shares) * have for share, have in zip(shares, got, strict=True)]
        chosen = lags.index(max(lags))
        parts[chosen].extend(unit)
        got[chosen] += weight


def _units(samples: Iterable[Sample]) -> list[list[Sample]]:
    """What must stay together: the samples of a group; a sample without group alone."""
    units: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        units["group" if sample.group is not None else "single", sample.group or sample.id].append(sample)
    return list(units.values())


def _large_first(units: list[list[Sample]], seed: int, *stream: int) -> list[list[Sample]]:
    """Shuffled, then large groups first: the small ones after them even out what they leave uneven."""
    return sorted(_shuffled(units, seed, *stream), key=len, reverse=True)


def _shuffled(items: list[Item], seed: int, *stream: int) -> list[Item]:
    """Items in an order of their own for each stream, so that one more defect type leaves the others' order alone."""
    return [items[i] for i in np.random.default_rng([seed, *stream]).permutation(len(items))]


def _number(name: str) -> int:
    return zlib.crc32(name.encode())


def _normal(samples: Iterable[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.label == "normal"]


def _anomalous(samples: Iterable[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.label == "anomalous"]


def _by_defect(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    types: dict[str, list[Sample]] = defaultdict(list)
    for sample in _anomalous(samples):
        types[sample.defect].append(sample)
    return types


def _first(k: int | None, anomalous: list[Sample], protocol: str) -> list[Sample]:
    if k is not None and not 0 <= k <= len(anomalous):
        have = f"protocol {protocol} has {len(anomalous)} anomalous images for training"
        raise JobError(f"k is {k}; {have}; choose 0 to {len(anomalous)}, or label more")
    return anomalous[:k]


def _refuse_empty(parts: Parts, protocol: str) -> None:
    if all(map(_normal, parts)) and _anomalous(parts.test):
        return
    counts = ", ".join(
        f"{name} {len(_normal(part))} normal and {len(_anomalous(part))} anomalous" for name, part in parts._asdict().items()
    )
    need = "each part needs a normal image and test an anomalous one too"
    raise DataError(f"protocol {protocol} would give {counts}; {need}; add images or choose another protocol")
