from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adjobs.data.checks.duplicates import SIDE, Descriptor
from adjobs.data.dataset import Sample
from adjobs.data.labels.masks import Box
from adjobs.data.versions.entries import VersionedSample
from adjobs.versioning.inbox import InboxSample
from adjobs.versioning.merging import merge

DESCRIPTOR = Descriptor(0, np.zeros((SIDE, SIDE), dtype=np.int8))
BOXES = (Box(0, 0, 5, 5),)


def make_sample(batch: str, name: str, label: str, **fields: object) -> Sample:
    path = Path("files", batch, name)
    return Sample(path.as_posix(), path, label, **fields)  # type: ignore[arg-type]


def item(name: str, label: str, digest: str = "a", **fields: object) -> InboxSample:
    sample = make_sample("new", name, label, **fields)
    return InboxSample(name, sample, sample.files, tuple(digest * 64 for _ in sample.files), DESCRIPTOR)


def entry(label: str, digest: str = "a", **fields: object) -> VersionedSample:
    sample = make_sample("old", "0.png", label, **fields)
    return VersionedSample(sample, tuple(digest * 64 for _ in sample.files), added=1, assigned=1)


def test_merge_copies_of_one_image_are_one_candidate_with_most_detail():
    items = [item("a", "unlabelled"), item("b", "anomalous"), item("c", "anomalous", boxes=BOXES), item("d", "normal", "d")]
    merged = merge(items, [], relabel=False)
    assert [candidate.item.name for candidate in merged.candidates] == ["c", "d"]
    assert (merged.duplicates, merged.set_aside) == (2, ())


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"defect": "dent"}, {"defect": "scratch"}, "shows dent, but the same image b shows scratch"),
        ({"boxes": BOXES}, {"boxes": (Box(1, 1, 5, 5),)}, "has other boxes than the same image b"),
        ({"defect": "dent", "boxes": BOXES}, {"defect": "dent", "boxes": (BOXES[0], Box(6, 6, 8, 8))}, "has other boxes"),
    ],
)
def test_merge_copies_whose_details_differ_are_set_aside(first, second, message):
    copies = [item("a", "anomalous", **first), item("b", "anomalous", **second), item("c", "anomalous")]
    merged = merge(copies, [], relabel=False)
    assert merged.candidates == ()
    assert [aside.name for aside in merged.set_aside] == ["a", "b", "c"]
    assert message in merged.set_aside[0].message


def test_merge_unlabelled_image_adds_nothing_to_a_labelled_one():
    merged = merge([item("a", "unlabelled")], [entry("normal", published_split="test")], relabel=True)
    assert (merged.candidates, merged.duplicates) == ((), 1)


@pytest.mark.parametrize("label", ["normal", "anomalous"])
def test_merge_label_of_an_unlabelled_image_needs_a_split(label):
    (candidate,) = merge([item("a", label, group="board")], [entry("unlabelled")], relabel=False).candidates
    assert candidate.needs_split
    assert (candidate.sample.id, candidate.sample.label, candidate.sample.group) == ("files/old/0.png", label, "board")
    assert candidate.uploads == {}


def test_merge_missing_details_are_filled_in_and_others_kept():
    before = entry("anomalous", defect="dent", published_split="train")
    (candidate,) = merge([item("a", "anomalous", defect="scratch", boxes=BOXES)], [before], relabel=False).candidates
    assert not candidate.needs_split
    assert (candidate.sample.defect, candidate.sample.boxes, candidate.sample.published_split) == ("dent", BOXES, "train")


def test_merge_relabel_replaces_details_that_differ():
    before = entry("anomalous", defect="dent", boxes=BOXES)
    (candidate,) = merge([item("a", "anomalous", defect="scratch")], [before], relabel=True).candidates
    assert (candidate.sample.defect, candidate.sample.boxes) == ("scratch", BOXES)


def test_merge_relabel_of_another_label_drops_its_details():
    before = entry("anomalous", defect="dent", boxes=BOXES, published_split="test")
    (candidate,) = merge([item("a", "normal")], [before], relabel=True).candidates
    sample = candidate.sample
    assert (sample.label, sample.defect, sample.boxes, sample.published_split) == ("normal", "", None, "test")
    assert not candidate.needs_split


def test_merge_same_mask_in_another_file_is_no_change():
    before = entry("anomalous", mask=Path("files/old/m.png"))
    merged = merge([item("a", "anomalous", mask=Path("files/new/other.png"))], [before], relabel=True)
    assert (merged.candidates, merged.duplicates) == ((), 1)


def test_merge_new_mask_is_the_only_upload():
    (candidate,) = merge([item("a", "anomalous", mask=Path("files/new/m.png"))], [entry("anomalous")], relabel=False).candidates
    assert list(candidate.uploads) == ["files/new/m.png"]
    assert candidate.hashes == ("a" * 64, "a" * 64)


def test_merge_split_of_the_source_is_ignored():
    (candidate,) = merge([item("a", "normal", published_split="test")], [], relabel=False).candidates
    assert (candidate.sample.published_split, candidate.needs_split) == (None, True)
