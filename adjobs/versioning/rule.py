"""Which split images that are added get: the one that lacks most of its share of them. Nothing that has a split moves."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

from adjobs.data.versions.record import SPLITS, SplitRule

_PREFERENCE = ("test", "train", "val")
"""Of splits that lack equally much: without an anomaly in the test split nothing can be measured."""


class Stratum(NamedTuple):
    """Images that are balanced among splits together: of one label and, if anomalous, one defect type."""

    label: str
    defect: str = ""


class Unit(NamedTuple):
    """What is assigned as a whole: the images of a group, or a single image.

    Attributes:
        key: name of the group, or checksum of the image; unique.
        images: number of images of each stratum.
    """

    key: str
    images: Mapping[Stratum, int]

    @property
    def stratum(self) -> Stratum:
        """The stratum that decides: of the defect types the one with most images, or the normal images if there is none."""
        return min(self.images, key=lambda item: (item.label == "normal", -self.images[item], item))


def assign_splits(units: Iterable[Unit], counts: Mapping[tuple[str, Stratum], int], rule: SplitRule) -> dict[str, str]:
    """Assign units to splits.

    In an order that depends on seed and keys alone, each unit gets the split that lacks most of its share of the unit's stratum.
    If several lack equally much, that of them that lacks most of its share of the label decides, so that many defect types with
    one image each do not all end up in one split.

    Args:
        units: what is new.
        counts: number of images by split and stratum that were assigned before; those with which a data set was created do not
            count, so that an uneven split of these does not determine what becomes of all later ones.
        rule: shares and seed.

    Returns:
        The split by the unit's key.
    """
    totals = Counter(dict(counts))
    by_label: Counter[tuple[str, str]] = Counter()
    for (split, stratum), count in counts.items():
        by_label[split, stratum.label] += count
    splits: dict[str, str] = {}
    for unit in sorted(units, key=lambda unit: _order(rule.seed, unit.key)):
        stratum, label = unit.stratum, unit.stratum.label
        size_of_label = sum(count for item, count in unit.images.items() if item.label == label)
        of_stratum = {split: totals[split, stratum] for split in SPLITS}
        of_label = {split: by_label[split, label] for split in SPLITS}
        lacks = _deficits(rule, label, of_stratum, unit.images[stratum])
        lacks_of_label = _deficits(rule, label, of_label, size_of_label)
        allowed = [split for split in _PREFERENCE if _share(rule, label, split) > 0]
        chosen = max(allowed, key=lambda split: (lacks[split], lacks_of_label[split]))  # the first of equal ones
        splits[unit.key] = chosen
        for item, count in unit.images.items():
            totals[chosen, item] += count
            by_label[chosen, item.label] += count
    return splits


def _order(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}\n{key}".encode()).hexdigest()


def _share(rule: SplitRule, label: str, split: str) -> Fraction:
    shares = rule.normal if label == "normal" else rule.anomalous
    return Fraction(str(getattr(shares, split)))  # exact: rounding errors must not decide between equal splits


def _deficits(rule: SplitRule, label: str, counts: Mapping[str, int], size: int) -> dict[str, Fraction]:
    """Number of images that each split lacks, once this many more are distributed."""
    total = sum(counts.values()) + size
    return {split: _share(rule, label, split) * total - count for split, count in counts.items()}
