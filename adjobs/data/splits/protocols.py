"""Protocols: ways to split a data set, from papers or from practice. They depend on the seed, not on the order of files."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import numpy as np

from adjobs.data.dataset import Dataset, Sample
from adjobs.errors import DataError, JobError, choices

Item = TypeVar("Item")

LIAC_TRAIN_ANOMALIES = 80
"""Maximum number of anomalies reserved for training (LIAC, table I)."""

LIAC_TRAIN_NORMALS = 2000
"""Maximum number of normal training images if the test split is published (LIAC, table I, ROCT)."""

DPAE_SIZES = {"mtd": (330, 142)}
"""Normal images for training and for test, by format (DPAE, table 2); its 422 defective tiles are not in the public data set."""

DPAE_TRAIN_NORMALS = 500
"""Maximum number of normal training images for formats without an entry above (DPAE, table 2: APSD and RSD)."""

LABEL_BUDGET = 10
"""Number of anomalies that may be labelled (SemiREST, section V; also PRN and DRA)."""


class SplitSamples(NamedTuple):
    """The samples of each split. The anomalous samples of ``train`` are in order of use: fewer can be taken from the start."""

    train: list[Sample]
    val: list[Sample]
    test: list[Sample]


Protocol = Callable[[Dataset, int], SplitSamples]
"""Function of a data set, whose samples are labelled and sorted by id, and a seed."""


def find_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        JobError: the protocol is unknown.
    """
    if name not in PROTOCOLS:
        raise JobError(f"unknown protocol '{name}'; {choices(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def default_protocol(dataset: Dataset) -> str:
    """The protocol where the user names none: ``official`` if the published splits can be used as they are, else ``holdout``.

    A test split is needed for that: exports of labelling tools often have ``train`` and ``val`` only. Versions of a data set keep
    their splits whatever they are.
    """
    has_test = any(sample.published_split == "test" and sample.label != "unlabelled" for sample in dataset.samples)
    return "official" if has_test or dataset.version is not None else "holdout"


def official(dataset: Dataset, seed: int) -> SplitSamples:
    """The published splits; without a published validation split, a fifth of the normal training images (at least one).

    Raises:
        DataError: the data set has no published splits.
    """
    splits = _published(dataset)
    if not any(splits):
        others = ", ".join(sorted(PROTOCOLS.keys() - {"official"}))
        raise DataError(
            f"protocol official: the data set has no published splits (as for example layout mvtec has); choose one of {others}"
        )
    if splits.val:
        return splits._replace(train=_normal(splits.train) + _shuffled(_anomalous(splits.train), seed, 1))
    train = _shuffled(_anomalous(splits.train), seed, 1)
    val: list[Sample] = []
    val_size = max(1, round(len(_normal(splits.train)) / 5))
    for unit in _shuffled(_units(_normal(splits.train)), seed, 0):
        (val if len(val) < val_size else train).extend(unit)
    return SplitSamples(train, val, splits.test)


def holdout(dataset: Dataset, seed: int) -> SplitSamples:
    """Normal images 60/20/20 per cent, anomalous 20/40/40 of each defect type; a group is never split.

    Units (groups, or single images) are assigned one by one to the split that lacks most of its share. A group with
    anomalous images is assigned with the defect type that most of them have.
    """
    splits = SplitSamples([], [], [])
    strata: dict[str, list[list[Sample]]] = defaultdict(list)
    normal_units: list[list[Sample]] = []
    for unit in _units(dataset.samples):
        defects = Counter(sample.defect for sample in _anomalous(unit))
        (strata[min(defects, key=lambda name: (-defects[name], name))] if defects else normal_units).append(unit)
    # All types in one sequence, so that many types with one image each do not all end up in the same split.
    anomalous_units = [unit for name in sorted(strata) for unit in _large_first(strata[name], seed, 1, _stream(name))]
    _assign(anomalous_units, "anomalous", (1, 2, 2), splits)
    _assign(_large_first(normal_units, seed, 0), "normal", (3, 1, 1), splits)
    return splits._replace(train=_normal(splits.train) + _shuffled(_anomalous(splits.train), seed, 2))


def liac(dataset: Dataset, seed: int) -> SplitSamples:
    """LIAC's protocol (table I): normal images 6:2:2; up to 80 anomalies reserved for training, the others 5:5.

    The paper gives sizes only. Those of magnetic tiles (571/190/191 and 154/158) and ELPV (904/301/303 and 517/519)
    follow exactly from these rules: normal shares are rounded down, with the remainder in test; reserved anomalies are taken
    from each defect type in turn, so equally; the smaller half of the other anomalies of a type is in validation. At most half
    of a type is reserved, so that small data sets can test. Groups are ignored, since the published sizes need single images.

    If the data set has a published test split and its training split has anomalies (ROCT: 2000, 242, 242 and 726, 726), the test
    split is the published one, validation gets as many other images of each type, and at most 2000 normal images are used for
    training; groups are never split.
    """
    published = _published(dataset)
    if _anomalous(published.test) and _anomalous(published.train + published.val):
        return _liac_published(published, seed)
    normals = _shuffled(_normal(dataset.samples), seed, 0)
    train_end, val_end = (len(normals) * 6 // 10, len(normals) * 6 // 10 + len(normals) * 2 // 10)
    splits = SplitSamples(normals[:train_end], normals[train_end:val_end], normals[val_end:])
    anomalies = _anomalies_by_type(dataset.samples, seed)
    reserved = _reserve_in_turn({name: len(samples) // 2 for name, samples in anomalies.items()})
    for name, samples in anomalies.items():
        remaining = samples[reserved[name] :]
        splits.val.extend(remaining[: len(remaining) // 2])
        splits.test.extend(remaining[len(remaining) // 2 :])
    return splits._replace(train=splits.train + _interleave(anomalies, reserved))


def _liac_published(published: SplitSamples, seed: int) -> SplitSamples:
    """Validation like the published test split, from the other images.

    Groups of the validation split are excluded from training, groups of the test split from both.
    """
    test_groups = {sample.group for sample in published.test if sample.group is not None}
    candidates = [sample for sample in published.train + published.val if sample.group not in test_groups]
    normals, anomalies = _shuffled(_normal(candidates), seed, 0), _anomalies_by_type(candidates, seed)
    test_counts = Counter(sample.defect for sample in _anomalous(published.test))
    val = normals[: min(len(_normal(published.test)), len(normals) // 2)]
    for name, samples in anomalies.items():
        val = val + samples[: min(test_counts[name], len(samples) // 2)]
    val_groups = {sample.group for sample in val if sample.group is not None}
    val_ids = {sample.id for sample in val}

    def without_val(samples: list[Sample]) -> list[Sample]:
        return [sample for sample in samples if sample.id not in val_ids and sample.group not in val_groups]

    anomalies = {name: without_val(samples) for name, samples in anomalies.items()}
    reserved = _reserve_in_turn({name: len(samples) for name, samples in anomalies.items()})
    train = without_val(normals)[:LIAC_TRAIN_NORMALS] + _interleave(anomalies, reserved)
    return SplitSamples(train, val, published.test)


def dpae(dataset: Dataset, seed: int) -> SplitSamples:
    """DPAE's protocol (table 2): some normal images for training, others for test together with all anomalies.

    Magnetic tiles: 330 and 142 normal images. Published splits are used where they exist (its CSD is the carpet of MVTec AD).
    Other data sets are split like its APSD and RSD: a quarter of the test split is normal, and at most 500 images are used for
    training. The paper has no validation split; here it consists of normal images that the paper leaves unused, as many as in
    test, or if too few are unused, of training images (at most a fifth of all normal ones). Where there are no anomalies, a
    fifth is for test and a fifth for validation.
    """
    if any(_published(dataset)):
        splits = official(dataset, seed)
        return splits._replace(train=_normal(splits.train), val=_normal(splits.val))
    normals, anomalies = _shuffled(_normal(dataset.samples), seed, 0), _anomalous(dataset.samples)
    default_test = max(1, len(anomalies) // 3) if anomalies else len(normals) // 5
    n_train, n_test = DPAE_SIZES.get(dataset.format, (DPAE_TRAIN_NORMALS, default_test))
    if n_train + 2 * n_test > len(normals):
        n_test = min(n_test, len(normals) // 5)
        n_train = min(n_train, len(normals) - 2 * n_test)
    test, val, train = normals[:n_test], normals[n_test : 2 * n_test], normals[2 * n_test : 2 * n_test + n_train]
    return SplitSamples(train, val, test + anomalies)


def budget(dataset: Dataset, seed: int) -> SplitSamples:
    """Up to ten labelled anomalies for training (SemiREST, section V), added to ``official``, or ``holdout`` if unpublished.

    They are taken from the training split if it has anomalies (KolektorSDD2), otherwise from the test split. Further anomalies
    of the training split are not used. ``data.label_detail`` selects whether they are labelled by masks, blocks or boxes.
    """
    splits = official(dataset, seed) if any(_published(dataset)) else holdout(dataset, seed)
    labelled = _shuffled(_anomalous(splits.train) or _anomalous(splits.test), seed, 3)[:LABEL_BUDGET]
    labelled_ids = {sample.id for sample in labelled}
    test = [sample for sample in splits.test if sample.id not in labelled_ids]
    return SplitSamples(_normal(splits.train) + labelled, splits.val, test)


PROTOCOLS: dict[str, Protocol] = {
    "budget": budget,
    "dpae": dpae,
    "holdout": holdout,
    "liac": liac,
    "official": official,
}


def _published(dataset: Dataset) -> SplitSamples:
    return SplitSamples(
        *([sample for sample in dataset.samples if sample.published_split == name] for name in SplitSamples._fields)
    )


def _anomalies_by_type(samples: Iterable[Sample], seed: int) -> dict[str, list[Sample]]:
    """Anomalies by defect type, each type shuffled independently."""
    anomalies: dict[str, list[Sample]] = defaultdict(list)
    for sample in _anomalous(samples):
        anomalies[sample.defect].append(sample)
    return {name: _shuffled(members, seed, 1, _stream(name)) for name, members in sorted(anomalies.items())}


def _reserve_in_turn(limits: dict[str, int]) -> Counter[str]:
    """How many anomalies of each type to reserve for training: one of each type in turn, at most ``limits`` of a type."""
    turns = sorted((turn, name) for name, count in limits.items() for turn in range(count))
    return Counter(name for _, name in turns[:LIAC_TRAIN_ANOMALIES])


def _interleave(anomalies: dict[str, list[Sample]], reserved: Counter[str]) -> list[Sample]:
    """The reserved anomalies, one of each type in turn, so that the first ones have all types."""
    turns = sorted((turn, name) for name, count in reserved.items() for turn in range(count))
    return [anomalies[name][turn] for turn, name in turns]


def _assign(units: Iterable[list[Sample]], label: str, weights: tuple[int, int, int], splits: SplitSamples) -> None:
    """Add each unit to the split that lacks most of its share of the images with this label."""
    counts = [sum(sample.label == label for sample in samples) for samples in splits]
    for unit in units:
        size = sum(sample.label == label for sample in unit)
        total = sum(counts) + size
        # In integers: with fractions, rounding errors would decide between equal splits.
        deficits = [weight * total - sum(weights) * count for weight, count in zip(weights, counts, strict=True)]
        chosen = deficits.index(max(deficits))
        splits[chosen].extend(unit)
        counts[chosen] += size


def _units(samples: Iterable[Sample]) -> list[list[Sample]]:
    """What must stay together: the samples of a group, or a single sample without group."""
    units: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        units["group" if sample.group is not None else "single", sample.group or sample.id].append(sample)
    return list(units.values())


def _large_first(units: list[list[Sample]], seed: int, *stream: int) -> list[list[Sample]]:
    """Shuffled, then large groups first, so that small ones can even out the imbalance."""
    return sorted(_shuffled(units, seed, *stream), key=len, reverse=True)


def _shuffled(items: list[Item], seed: int, *stream: int) -> list[Item]:
    """Items in the order of a random stream of their own, so that a further defect type does not change the others' order."""
    return [items[i] for i in np.random.default_rng([seed, *stream]).permutation(len(items))]


def _stream(name: str) -> int:
    return zlib.crc32(name.encode())


def _normal(samples: Iterable[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.label == "normal"]


def _anomalous(samples: Iterable[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.label == "anomalous"]
