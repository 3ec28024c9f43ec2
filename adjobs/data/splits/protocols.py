"""Protocols: how a data set is divided, as papers did it or as practice needs it. Seeded, the same for any order of files."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import numpy as np

from adjobs.data.dataset import Dataset, Sample
from adjobs.errors import DataError, JobError, choices

Item = TypeVar("Item")

LIAC_POOL = 80
"""Anomalies reserved for training at most (LIAC, table I)."""

LIAC_NORMALS = 2000
"""Normal training images at most where the test part is published (LIAC, table I, ROCT)."""

DPAE_SIZES = {"mtd": (330, 142)}
"""Normal images for training and for test by format (DPAE, table 2); its 422 defective tiles are not in the public set."""

DPAE_NORMALS = 500
"""Normal training images at most where the table names no size (DPAE, table 2: APSD and RSD)."""

BUDGET = 10
"""Anomalies that may be labelled (SemiREST, section V; also PRN and DRA)."""


class Parts(NamedTuple):
    """What a protocol gives. Of the anomalous samples in ``train`` the first k are used, in their order."""

    train: list[Sample]
    val: list[Sample]
    test: list[Sample]


Protocol = Callable[[Dataset, int], Parts]
"""Takes a data set of labelled samples, sorted by id, and a seed."""


def find_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        JobError: there is none.
    """
    if name not in PROTOCOLS:
        raise JobError(f"{name}: no such protocol; {choices(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def official(index: Dataset, seed: int) -> Parts:
    """The published parts; where none is for validation, a fifth of the normal training images (at least one).

    Raises:
        DataError: the data set has no published parts.
    """
    parts = _published(index)
    if not any(parts):
        others = ", ".join(sorted(PROTOCOLS.keys() - {"official"}))
        raise DataError(f"protocol official: the data set has no published parts (as layout mvtec has); choose one of {others}")
    if parts.val:
        return parts._replace(train=_normal(parts.train) + _shuffled(_anomalous(parts.train), seed, 1))
    train = _shuffled(_anomalous(parts.train), seed, 1)
    val: list[Sample] = []
    wanted = max(1, round(len(_normal(parts.train)) / 5))
    for unit in _shuffled(_units(_normal(parts.train)), seed, 0):
        (val if len(val) < wanted else train).extend(unit)
    return Parts(train, val, parts.test)


def holdout(index: Dataset, seed: int) -> Parts:
    """Normal images 60/20/20 per cent, anomalous 20/40/40 of each defect type; a group goes to one part as a whole.

    Units (groups, or single images) are dealt one by one to the part that lags furthest behind its share. A group with
    anomalous images is dealt with the defect type that most of them have.
    """
    parts = Parts([], [], [])
    strata: dict[str, list[list[Sample]]] = defaultdict(list)
    normal_units: list[list[Sample]] = []
    for unit in _units(index.samples):
        defects = Counter(sample.defect for sample in _anomalous(unit))
        (strata[min(defects, key=lambda name: (-defects[name], name))] if defects else normal_units).append(unit)
    # Type after type in one go, so that many types with one image each do not all land in the same part.
    dealt = [unit for name in sorted(strata) for unit in _large_first(strata[name], seed, 1, _number(name))]
    _deal(dealt, "anomalous", (1, 2, 2), parts)
    _deal(_large_first(normal_units, seed, 0), "normal", (3, 1, 1), parts)
    return parts._replace(train=_normal(parts.train) + _shuffled(_anomalous(parts.train), seed, 2))


def liac(index: Dataset, seed: int) -> Parts:
    """LIAC's protocol (table I): normal images 6:2:2; up to 80 anomalies reserved for training, the rest 5:5.

    The paper gives sizes only. Those of magnetic tiles (571/190/191 and 154/158) and ELPV (904/301/303 and 517/519)
    follow exactly from: normal shares rounded down, the rest in test; the reserve filled from each defect type in turn,
    so equally; of each type's rest the smaller half in validation. At most half of a type is reserved, so that small
    data sets can test. Groups are not regarded, since the published sizes need single images.

    Where a test part is published and the training part has anomalies (ROCT: 2000, 242, 242 and 726, 726), that is the test
    part, validation gets as many images of each type out of the rest, and at most 2000 normal images train; groups stay whole.
    """
    published = _published(index)
    if _anomalous(published.test) and _anomalous(published.train + published.val):
        return _liac_published(published, seed)
    normals = _shuffled(_normal(index.samples), seed, 0)
    train_end, val_end = (len(normals) * 6 // 10, len(normals) * 6 // 10 + len(normals) * 2 // 10)
    parts = Parts(normals[:train_end], normals[train_end:val_end], normals[val_end:])
    types = _types(index.samples, seed)
    reserved = _in_turn({name: len(found) // 2 for name, found in types.items()})
    for name, found in types.items():
        rest = found[reserved[name] :]
        parts.val.extend(rest[: len(rest) // 2])
        parts.test.extend(rest[len(rest) // 2 :])
    return parts._replace(train=parts.train + _turns(types, reserved))


def _liac_published(published: Parts, seed: int) -> Parts:
    """Validation like the published test part, out of the rest; what shares a group with it does not train.

    What shares a group with the test part does neither.
    """
    tested = {sample.group for sample in published.test if sample.group is not None}
    rest = [sample for sample in published.train + published.val if sample.group not in tested]
    normals, types = _shuffled(_normal(rest), seed, 0), _types(rest, seed)
    wanted = Counter(sample.defect for sample in _anomalous(published.test))
    val = normals[: min(len(_normal(published.test)), len(normals) // 2)]
    for name, found in types.items():
        val = val + found[: min(wanted[name], len(found) // 2)]
    apart = {sample.group for sample in val if sample.group is not None}
    chosen = {sample.id for sample in val}

    def left(samples: list[Sample]) -> list[Sample]:
        return [sample for sample in samples if sample.id not in chosen and sample.group not in apart]

    types = {name: left(found) for name, found in types.items()}
    pool = _turns(types, _in_turn({name: len(found) for name, found in types.items()}))
    return Parts(left(normals)[:LIAC_NORMALS] + pool, val, published.test)


def dpae(index: Dataset, seed: int) -> Parts:
    """DPAE's protocol (table 2): normal images train, the others test together with all anomalies.

    Magnetic tiles: 330 and 142 normal images. Where parts are published (its CSD is the carpet of MVTec AD), those. Elsewhere
    as for its APSD and RSD: a quarter of the test part is normal, at most 500 images train. The paper has no validation part;
    here normal images that it leaves unused validate, as many as test, and where it uses all, a fifth of those for training.
    """
    if any(_published(index)):
        parts = official(index, seed)
        return parts._replace(train=_normal(parts.train), val=_normal(parts.val))
    normals, anomalies = _shuffled(_normal(index.samples), seed, 0), _anomalous(index.samples)
    n_train, n_test = DPAE_SIZES.get(index.format, (DPAE_NORMALS, max(1, len(anomalies) // 3)))
    if n_train + 2 * n_test > len(normals):
        n_test = min(n_test, len(normals) // 5)
        n_train = min(n_train, len(normals) - 2 * n_test)
    test, val, train = normals[:n_test], normals[n_test : 2 * n_test], normals[2 * n_test : 2 * n_test + n_train]
    return Parts(train, val, test + anomalies)


def budget(index: Dataset, seed: int) -> Parts:
    """Up to ten labelled anomalies to train on (SemiREST, section V), over ``official``, or ``holdout`` if nothing is published.

    They come out of the training part where it has anomalies (KolektorSDD2); otherwise they leave the test part. Anomalies of
    the training part beyond the ten are not used. ``data.label_detail`` says whether they are shown as masks, blocks or boxes.
    """
    parts = official(index, seed) if any(_published(index)) else holdout(index, seed)
    pool = _shuffled(_anomalous(parts.train) or _anomalous(parts.test), seed, 3)
    chosen = {sample.id for sample in pool[:BUDGET]}
    return Parts(_normal(parts.train) + pool[:BUDGET], parts.val, [s for s in parts.test if s.id not in chosen])


PROTOCOLS: dict[str, Protocol] = {
    "budget": budget,
    "dpae": dpae,
    "holdout": holdout,
    "liac": liac,
    "official": official,
}


def _published(index: Dataset) -> Parts:
    return Parts(*([sample for sample in index.samples if sample.published_split == name] for name in Parts._fields))


def _types(samples: Iterable[Sample], seed: int) -> dict[str, list[Sample]]:
    """Anomalies by defect type, each type shuffled for itself."""
    types: dict[str, list[Sample]] = defaultdict(list)
    for sample in _anomalous(samples):
        types[sample.defect].append(sample)
    return {name: _shuffled(found, seed, 1, _number(name)) for name, found in sorted(types.items())}


def _in_turn(most: dict[str, int]) -> Counter[str]:
    """How many of each type to reserve for training: one of each in turn, at most ``most`` of a type."""
    turns = sorted((turn, name) for name, count in most.items() for turn in range(count))
    return Counter(name for _, name in turns[:LIAC_POOL])


def _turns(types: dict[str, list[Sample]], reserved: Counter[str]) -> list[Sample]:
    """The reserved anomalies, one of each type in turn, so that the first k have all types."""
    turns = sorted((turn, name) for name, count in reserved.items() for turn in range(count))
    return [types[name][turn] for turn, name in turns]


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
