"""The next version of a data set: which images it gets, and in which split. Nothing is written here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adjobs.data.checks.duplicates import find_pairs
from adjobs.data.dataset import Sample
from adjobs.data.versions.entries import VersionedSample
from adjobs.data.versions.record import SPLITS, DatasetHeader, SetAside
from adjobs.versioning.descriptors import DescriptorReader
from adjobs.versioning.inbox import Inbox
from adjobs.versioning.merging import Candidate, merge
from adjobs.versioning.rule import Stratum, Unit, assign_splits

NEAR_DUPLICATE = "near duplicate"


@dataclass(frozen=True)
class Addition:
    """What an inbox changes in a data set.

    Attributes:
        entries: all images of the next version.
        added: number of new images.
        updated: number of images whose labels change.
        duplicates: number of images that add nothing.
        set_aside: what is not taken in.
        uploads: files to copy, by their keys.
    """

    entries: tuple[VersionedSample, ...]
    added: int
    updated: int
    duplicates: int
    set_aside: tuple[SetAside, ...]
    uploads: dict[str, Path]


def plan_addition(
    entries: Sequence[VersionedSample],
    number: int,
    inbox: Inbox,
    header: DatasetHeader,
    descriptors: DescriptorReader,
    *,
    relabel: bool = False,
) -> Addition:
    """Decide what becomes of the images of an inbox.

    Args:
        entries: the images of the newest version.
        number: of the next version.
        inbox: what is added.
        header: of the data set.
        descriptors: for near duplicates among the entries.
        relabel: whether what is added replaces other labels of the data set.

    Raises:
        StorageError: descriptors cannot be read.
    """
    merged = merge(inbox.samples, entries, relabel=relabel)
    candidates = _with_splits(merged.candidates, entries, header, descriptors)
    set_aside = _near_duplicates(candidates, entries, descriptors)
    refused = {item.name for item in set_aside}
    accepted = [candidate for candidate in candidates if candidate.item.name not in refused]
    changed = {candidate.sample.id: _entry(candidate, number) for candidate in accepted}
    unchanged = (entry for entry in entries if entry.id not in changed)
    uploads = {key: path for candidate in accepted for key, path in candidate.uploads.items()}
    return Addition(
        entries=tuple(sorted([*unchanged, *changed.values()], key=lambda entry: entry.id)),
        added=sum(candidate.before is None for candidate in accepted),
        updated=sum(candidate.before is not None for candidate in accepted),
        duplicates=merged.duplicates,
        set_aside=tuple(sorted([*inbox.set_aside, *merged.set_aside, *set_aside])),
        uploads=uploads,
    )


def _entry(candidate: Candidate, number: int) -> VersionedSample:
    before, sample = candidate.before, candidate.sample
    assigned = before.assigned if before else 0
    if candidate.needs_split and sample.published_split:
        assigned = number
    return VersionedSample(sample, candidate.hashes, before.added if before else number, assigned)


def _with_splits(
    candidates: Sequence[Candidate],
    entries: Sequence[VersionedSample],
    header: DatasetHeader,
    descriptors: DescriptorReader,
) -> list[Candidate]:
    """The candidates with their splits: that of their group if it has one, or else as the rule says.

    Images of one inbox that are near duplicates of each other are assigned together.
    """
    pending = [candidate for candidate in candidates if candidate.needs_split]
    strata: dict[str, Counter[Stratum]] = defaultdict(Counter)
    for candidate in pending:
        strata[_unit_key(candidate)][_stratum(candidate.sample)] += 1
    split_of_group = _split_of_groups(entries)
    splits: dict[str, str] = {}
    clusters: dict[str, frozenset[str]] = {}  # those that are new, by one of their keys
    for keys in _clusters(pending, entries, descriptors):
        known = sorted({split_of_group[key] for key in keys if key in split_of_group}, key=SPLITS.index)
        if known:
            splits |= {key: split_of_group.get(key, known[0]) for key in keys}
        else:
            clusters[min(keys)] = keys
    units = [Unit(key, sum((strata[member] for member in keys), Counter())) for key, keys in clusters.items()]
    for key, split in assign_splits(units, _assigned_counts(entries, header), header.rule).items():
        splits |= dict.fromkeys(clusters[key], split)
    return [
        replace(candidate, sample=replace(candidate.sample, published_split=splits[_unit_key(candidate)]))
        if candidate.needs_split
        else candidate
        for candidate in candidates
    ]


def _assigned_counts(entries: Iterable[VersionedSample], header: DatasetHeader) -> Counter[tuple[str, Stratum]]:
    """Number of images by split and stratum that additions brought; the splits of an existing data set are not the rule's."""
    first_version = 1 if header.source else 0
    return Counter(
        (entry.split, _stratum(entry.sample)) for entry in entries if entry.split is not None and entry.assigned > first_version
    )


def _stratum(sample: Sample) -> Stratum:
    return Stratum(sample.label, sample.defect if sample.label == "anomalous" else "")


def _unit_key(candidate: Candidate) -> str:
    return _key(candidate.sample.group, candidate.item.digest)


def _key(group: str | None, digest: str) -> str:
    return digest if group is None else f"group {group}"


def _split_of_groups(entries: Iterable[VersionedSample]) -> dict[str, str]:
    """The split in which most images of each group are, by the group's key; a published data set may have cut a group."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        if entry.group is not None and entry.split is not None:
            counts[_key(entry.group, "")][entry.split] += 1
    return {key: max(SPLITS, key=lambda split: splits[split]) for key, splits in counts.items()}


def _clusters(
    pending: Sequence[Candidate], entries: Sequence[VersionedSample], descriptors: DescriptorReader
) -> list[frozenset[str]]:
    """Keys of the units that are assigned together: one by one, but for near duplicates with the same label."""
    cluster_of = {key: frozenset({key}) for key in map(_unit_key, pending)}
    for first, second in _new_pairs(pending, entries, descriptors):
        if first.sample.label == second.sample.label:
            joined = cluster_of[_unit_key(first)] | cluster_of[_unit_key(second)]
            cluster_of |= dict.fromkeys(joined, joined)
    return sorted(set(cluster_of.values()), key=min)


def _new_pairs(
    pending: Sequence[Candidate], entries: Sequence[VersionedSample], descriptors: DescriptorReader
) -> list[tuple[Candidate, Candidate]]:
    """Near duplicates among what is added; the images of the data set show how similar others are."""
    known = _comparable(entries, pending)
    values = [*(candidate.item.descriptor for candidate in pending), *descriptors.read(known)]
    groups = [*map(_unit_key, pending), *(_key(entry.group, entry.digest) for entry in known)]
    pairs = find_pairs(values, [groups], range(len(pending)))
    return [(pending[first], pending[second]) for first, second, _ in pairs if second < len(pending)]


def _near_duplicates(
    candidates: Sequence[Candidate], entries: Sequence[VersionedSample], descriptors: DescriptorReader
) -> list[SetAside]:
    """Candidates that nearly equal an image of another split or label."""
    pending = [candidate for candidate in candidates if candidate.needs_split]
    known = _comparable(entries, pending)
    values = [*(candidate.item.descriptor for candidate in pending), *descriptors.read(known)]
    classes = [(candidate.sample.published_split, candidate.sample.label) for candidate in pending]
    classes += [(entry.split, entry.label) for entry in known]
    groups = [*map(_unit_key, pending), *(_key(entry.group, entry.digest) for entry in known)]
    names = [*(candidate.item.name for candidate in pending), *(entry.id for entry in known)]
    pairs = find_pairs(values, [[f"{split} {label}" for split, label in classes], groups], range(len(pending)))
    has_groups = any(group is not None for group in (*(item.sample.group for item in pending), *(entry.group for entry in known)))
    advice = f"leave it out, or give both the same group{'' if has_groups else ' in a manifest'}"
    set_aside: dict[int, SetAside] = {}
    for first, second, similarity in pairs:
        # Of two that are added, the first stays, unless their labels differ.
        refused = [first] if second >= len(pending) else [second]
        if second < len(pending) and classes[first][1] != classes[second][1]:
            refused = [first, second]
        for index in refused:
            other = second if index == first else first
            reason = _describe_near_duplicate(classes[index], names[other], classes[other], similarity, advice)
            set_aside.setdefault(index, SetAside(names[index], *reason))
    return list(set_aside.values())


def _comparable(entries: Sequence[VersionedSample], pending: Sequence[Candidate]) -> list[VersionedSample]:
    """The images of the data set that are in a split; none if nothing is compared with them."""
    return [entry for entry in entries if entry.split is not None] if pending else []


def _describe_near_duplicate(
    own: tuple[str | None, str], other: str, others: tuple[str | None, str], similarity: float, advice: str
) -> tuple[str, str]:
    """Kind and message of a near duplicate; ``own`` and ``others`` are split and label, ``advice`` is for other splits."""
    if own[1] != others[1]:
        message = f"is {own[1]}, but its near duplicate {other} (similarity {similarity:.2f}) is {others[1]}; correct one label"
        return f"{NEAR_DUPLICATE}, other label", f"{message}, or leave it out"
    message = (
        f"would be in the {own[0]} split, but its near duplicate {other} (similarity {similarity:.2f}) is in the {others[0]} "
        f"split; {advice}"
    )
    return f"{NEAR_DUPLICATE}, other split", message
