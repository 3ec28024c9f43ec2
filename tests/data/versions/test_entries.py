from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adjobs.data.dataset import Sample
from adjobs.data.labels.masks import Box, Layers, Shapes
from adjobs.data.versions.entries import VersionedSample, count_entries, fingerprint_of_entries, read_entries, write_entries
from adjobs.data.versions.record import SplitCount

IMAGE = Path("files/0123/ü b.png")
MASKS = [
    None,
    Path("files/4567/m.png"),
    Layers((Path("files/4567/0.png"), Path("files/4567/1.png")), Path("files/4567/kinds.json")),
    Shapes(("[[1, 1, 9, 1, 9, 9.5]]",), 32, 32),
]


def make_entry(name: str = "0.png", label: str = "normal", split: str | None = "train", defect: str = "") -> VersionedSample:
    path = Path("files/0123", name)
    sample = Sample(path.as_posix(), path, label, defect=defect, published_split=split)  # type: ignore[arg-type]
    return VersionedSample(sample, ("a" * 64,), added=1)


@pytest.mark.parametrize("mask", MASKS)
def test_read_entries_is_the_inverse_of_write_entries(mask):
    boxes = (Box(0, 1, 2, 3.5),)
    sample = Sample(IMAGE.as_posix(), IMAGE, "anomalous", mask, "scratch", "board", "test", Path("files/0123/grid.png"), boxes)
    entry = VersionedSample(sample, tuple(f"{i:064}" for i in range(len(sample.files))), added=3, assigned=4)
    plain = make_entry(split=None, label="unlabelled")
    assert read_entries(write_entries([entry, plain])) == (plain, entry)
    assert (entry.batch, entry.split, entry.group, entry.defect) == ("0123", "test", "board", "scratch")


def test_write_entries_order_does_not_matter():
    entries = [make_entry(f"{i}.png") for i in range(5)]
    assert write_entries(entries) == write_entries(entries[::-1])


@pytest.mark.parametrize("change", ["{", "[]", '{"image": "x"}', '{"image": "/x", "label": "normal", "sha256": "a", "added": 1}'])
def test_read_entries_other_lines_are_refused(change):
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        read_entries(change.encode())


def test_read_entries_missing_checksum_is_refused():
    data = write_entries([replace(make_entry(), hashes=("a" * 64, "b" * 64))])
    with pytest.raises(ValueError, match=r"has 2 checksums for 1 files"):
        read_entries(data)


def test_fingerprint_of_entries_depends_on_labels_and_splits():
    entry = make_entry()
    other = replace(entry, sample=replace(entry.sample, published_split="test"))
    assert fingerprint_of_entries([entry]) != fingerprint_of_entries([other])
    assert fingerprint_of_entries([entry]) == fingerprint_of_entries([replace(entry, added=2, assigned=2)])


def test_count_entries_is_in_the_order_of_a_table():
    entries = [
        make_entry("0", "unlabelled", None),
        make_entry("1", "anomalous", "test", "scratch"),
        make_entry("2", "normal", "test"),
        make_entry("3"),
        make_entry("4"),
    ]
    assert count_entries(entries) == (
        SplitCount("train", "normal", "", 2),
        SplitCount("test", "normal", "", 1),
        SplitCount("test", "anomalous", "scratch", 1),
        SplitCount("", "unlabelled", "", 1),
    )
