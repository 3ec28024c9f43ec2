"""What becomes of images that are added, each by itself: new, a duplicate, a change of labels, or set aside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adjobs.data.dataset import Sample
from adjobs.data.labels.masks import Layers
from adjobs.data.versions.entries import VersionedSample
from adjobs.data.versions.record import SetAside
from adjobs.versioning.inbox import InboxSample

CONFLICT = "conflicting labels"
_DETAILS = ("defect", "mask", "blocks", "boxes")  # fields that say more than the label
_PLURALS = {"mask": "masks", "blocks": "blocks", "boxes": "boxes"}


@dataclass(frozen=True)
class Candidate:
    """An image that is new, or whose labels change.

    Attributes:
        item: as it is in the source.
        sample: as it will be in the data set, but for its split.
        before: as it is in the data set; None if it is new.
    """

    item: InboxSample
    sample: Sample
    before: VersionedSample | None = None

    @property
    def needs_split(self) -> bool:
        """Whether a split is to be chosen: nothing that was labelled before moves."""
        return self.sample.label != "unlabelled" and (self.before is None or self.before.label == "unlabelled")

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of each file of the sample, the image first."""
        known = _hash_of(self.item, self.before)
        return tuple(known[path] for path in self.sample.files)

    @property
    def uploads(self) -> dict[str, Path]:
        """The files that the data set does not have yet, by their keys."""
        present = set(self.before.sample.files) if self.before else set()
        sources = dict(zip(self.item.sample.files, self.item.sources, strict=True))
        return {path.as_posix(): sources[path] for path in self.sample.files if path not in present}


@dataclass(frozen=True)
class Merged:
    """What became of all images of a source.

    Attributes:
        candidates: those that change the data set, in the order of the source.
        duplicates: number of images that add nothing.
        set_aside: images whose labels contradict each other.
    """

    candidates: tuple[Candidate, ...]
    duplicates: int
    set_aside: tuple[SetAside, ...]


def merge(items: Sequence[InboxSample], entries: Iterable[VersionedSample], *, relabel: bool) -> Merged:
    """Compare images that are added with each other and with those of the data set, by their content.

    Args:
        items: what is added.
        entries: the images of the data set.
        relabel: whether what is added replaces other labels of the data set.
    """
    existing: dict[str, VersionedSample] = {}
    for entry in entries:
        existing.setdefault(entry.digest, entry)
    copies: dict[str, list[InboxSample]] = defaultdict(list)
    for item in items:
        copies[item.digest].append(item)
    candidates: list[Candidate] = []
    set_aside: list[SetAside] = []
    duplicates = 0
    for digest, members in copies.items():
        if len({item.sample.label for item in members} - {"unlabelled"}) > 1:
            set_aside.extend(_contradiction(item, members) for item in members)
            continue
        if disagreements := find_disagreements(members):
            set_aside.extend(disagreements)
            continue
        item, before = max(members, key=_detail), existing.get(digest)
        duplicates += len(members) - 1
        if before and not relabel and _contradict(before, item):
            set_aside.append(_contradiction_of_dataset(item, before))
            continue
        sample = _merge(item, before, relabel) if before else replace(item.sample, published_split=None)
        if before and sample == before.sample:
            duplicates += 1
        else:
            candidates.append(Candidate(item, sample, before))
    return Merged(tuple(candidates), duplicates, tuple(set_aside))


def _detail(item: InboxSample) -> tuple[bool, int]:
    """How much the labels of an image say."""
    return item.sample.label != "unlabelled", sum(bool(getattr(item.sample, name)) for name in _DETAILS)


def find_disagreements(copies: Sequence[InboxSample]) -> list[SetAside]:
    """Copies of one image with the same label, of which one shows another defect type, mask, blocks or boxes than another.

    An image has one sample in a data set: to take one of them would lose what the others say.
    """
    for name in _DETAILS:
        values = [_own_content(item, name) for item in copies if getattr(item.sample, name)]
        if any(value != values[0] for value in values):
            return [_disagreement(item, copies, name) for item in copies]
    return []


def _disagreement(item: InboxSample, copies: Sequence[InboxSample], name: str) -> SetAside:
    own = _own_content(item, name)
    other = next(copy for copy in copies if getattr(copy.sample, name) and _own_content(copy, name) != own)
    if name == "defect":
        what = f"shows {item.sample.defect or 'a defect'}, but the same image {other.name} shows {other.sample.defect}"
    else:
        what = f"has other {_PLURALS[name]} than the same image {other.name}"
    return SetAside(item.name, CONFLICT, f"{what}; list an image once, with all its defects in one label")


def _own_content(item: InboxSample, name: str) -> Any:
    return _content(getattr(item.sample, name), _hash_of(item, None))


def _contradict(before: VersionedSample, item: InboxSample) -> bool:
    return before.label != item.sample.label and "unlabelled" not in (before.label, item.sample.label)


def _contradiction(item: InboxSample, copies: Sequence[InboxSample]) -> SetAside:
    other = next((copy for copy in copies if copy.sample.label not in (item.sample.label, "unlabelled")), copies[0])
    message = (
        f"is {item.sample.label}, but the same image {other.name} is {other.sample.label}; an image has one label; remove one"
    )
    return SetAside(item.name, CONFLICT, message)


def _contradiction_of_dataset(item: InboxSample, before: VersionedSample) -> SetAside:
    message = (
        f"is {item.sample.label}, but the same image {before.id} of the data set is {before.label}; correct the label, or "
        "replace the one of the data set with --relabel"
    )
    return SetAside(item.name, CONFLICT, message)


def _merge(item: InboxSample, before: VersionedSample, relabel: bool) -> Sample:
    """The sample of the data set with what the added one says beyond it, and with ``relabel`` what it says otherwise."""
    old, new = before.sample, item.sample
    if new.label == "unlabelled":
        return old
    if old.label != new.label:
        group = old.group if old.published_split or old.group is not None else new.group
        return replace(old, label=new.label, group=group, **{name: getattr(new, name) for name in _DETAILS})
    known = _hash_of(item, before)
    changed = {
        name: getattr(new, name)
        for name in _DETAILS
        if getattr(new, name)
        and (not getattr(old, name) or (relabel and _content(getattr(new, name), known) != _content(getattr(old, name), known)))
    }
    return replace(old, **changed)


def _hash_of(item: InboxSample, before: VersionedSample | None) -> dict[Path, str]:
    own = dict(zip(item.sample.files, item.hashes, strict=True))
    return own | (dict(zip(before.sample.files, before.hashes, strict=True)) if before else {})


def _content(value: Any, hashes: Mapping[Path, str]) -> Any:
    """What a label says, whatever the names of its files."""
    if isinstance(value, Layers):
        return [hashes[path] for path in value.paths], value.kinds and hashes[value.kinds]
    return hashes[value] if isinstance(value, Path) else value
