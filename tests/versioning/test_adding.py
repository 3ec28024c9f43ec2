from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adjobs.data.dataset import fingerprint
from adjobs.data.image_reading import PixelScale
from adjobs.data.labels.masks import Box
from adjobs.data.versions.record import LAYOUT
from adjobs.errors import DamagedError, DataError
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_folder, save, texture
from tests.helpers.versioned import SIDE, add, by_name, create, draw, numbered, open_set


def as_manifest(root: Path, *lines: dict[str, object]) -> Path:
    root.mkdir(exist_ok=True)
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """A folder whose ``set`` has version 1, of 10 normal and 6 anomalous images in ``source``."""
    source = draw(tmp_path / "source", f"{numbered('good/{}.png', 10)} {numbered('bad/dent/{}.png', 6)}")
    create(tmp_path, source)
    return tmp_path


def test_add_to_dataset_new_images_become_a_version(grown):
    before = by_name(open_set(grown))
    result = add(grown, draw(grown / "inbox", numbered("scratch/{}.png", 4), seed=1), message="night shift")
    assert result.version is not None
    assert (result.version.number, result.added, result.updated, result.duplicates) == (2, 4, 0, 0)
    assert (result.version.author, result.version.message, result.version.source) == ("ann", "night shift", str(grown / "inbox"))
    after = by_name(open_set(grown))
    assert {name: after[name] for name in before} == before
    added = {name: entry for name, entry in after.items() if name not in before}
    assert set(added) == {f"scratch/{i}.png" for i in range(4)}
    assert {(entry.label, entry.defect, entry.added) for entry in added.values()} == {("anomalous", "scratch", 2)}
    assert sorted(str(entry.split) for entry in added.values()) == ["test", "test", "train", "train"]


def test_add_to_dataset_all_versions_stay_readable(grown):
    add(grown, draw(grown / "inbox", "good/x.png scratch/y.png", seed=1))
    dataset = open_set(grown)
    assert [record.images for record in dataset.records()] == [16, 18]
    for record in dataset.records():
        assert len(dataset.samples(record.number)) == record.images
        assert sum(count.count for count in record.counts) == record.images


def test_add_to_dataset_same_again_adds_nothing(grown):
    inbox = draw(grown / "inbox", "good/x.png scratch/y.png", seed=1)
    first, again = add(grown, inbox), add(grown, inbox)
    assert (again.version, again.added, again.duplicates) == (None, 0, 2)
    assert again.latest == first.version


def test_add_to_dataset_renamed_copy_is_a_duplicate(grown):
    inbox = grown / "inbox" / "good"
    inbox.mkdir(parents=True)
    shutil.copy(grown / "source" / "good" / "3.png", inbox / "other.png")
    assert (add(grown, inbox.parent).version, add(grown, inbox.parent).duplicates) == (None, 1)


def test_add_to_dataset_same_path_with_other_content_is_another_image(grown):
    add(grown, draw(grown / "a", "good/0.png", seed=1))
    add(grown, draw(grown / "b", "good/0.png", seed=2))
    ids = [entry.id for entry in open_set(grown).samples()]
    assert len(set(ids)) == len(ids) == 18
    assert sum(name.endswith("/good/0.png") for name in ids) == 3


@pytest.mark.parametrize("names", ["", "readme.txt"])
def test_add_to_dataset_empty_inbox_adds_nothing(grown, names):
    (grown / "inbox").mkdir()
    for name in names.split():
        (grown / "inbox" / name).write_text("")
    result = add(grown, grown / "inbox")
    assert (result.version, result.added, result.duplicates, result.set_aside) == (None, 0, 0, ())


def test_add_to_dataset_empty_inbox_of_a_given_format_adds_nothing(grown):
    (grown / "inbox" / "images").mkdir(parents=True)
    (grown / "inbox" / ".gitkeep").write_text("")
    assert add(grown, grown / "inbox", format="labelstudio").version is None


def test_add_to_dataset_relative_source_is_recorded_with_its_folder(grown, monkeypatch):
    draw(grown / "inbox", "scratch/x.png", seed=1)
    monkeypatch.chdir(grown)
    result = add(grown, "inbox")
    assert result.version is not None
    assert result.version.source == str(grown / "inbox")


def test_add_to_dataset_images_of_other_formats_are_warned_of(grown, caplog):
    inbox = draw(grown / "inbox", "scratch/x.png", seed=1)
    (inbox / "scratch" / "y.heic").write_bytes(b"x")
    assert add(grown, inbox).added == 1
    assert "1 images are not read because of their suffix (1 .heic)" in caplog.text


def test_add_to_dataset_floating_point_images_need_a_value_range(grown):
    from PIL import Image

    (grown / "inbox" / "scratch").mkdir(parents=True)
    values = np.random.default_rng(0).uniform(0, 1, (SIDE, SIDE)).astype(np.float32)
    Image.fromarray(values).save(grown / "inbox" / "scratch" / "x.tiff")
    assert [item.kind for item in add(grown, grown / "inbox").set_aside] == ["value range"]
    assert add(grown, grown / "inbox", scale=PixelScale(None, (0.0, 1.0))).added == 1


def test_add_to_dataset_empty_data_set_gets_version_1(tmp_path):
    create(tmp_path)
    result = add(tmp_path, draw(tmp_path / "inbox", numbered("good/{}.png", 5)))
    assert result.version is not None
    assert result.version.number == 1
    assert sorted(str(entry.split) for entry in open_set(tmp_path).samples()) == ["test", "train", "train", "train", "val"]


def test_add_to_dataset_dry_run_writes_nothing(grown):
    inbox = draw(grown / "inbox", "scratch/y.png", seed=1)
    before = sorted((grown / "set").rglob("*"))
    result = add(grown, inbox, dry_run=True)
    assert (result.version, result.added) == (None, 1)
    assert sum(count.count for count in result.counts) == 17
    assert sorted((grown / "set").rglob("*")) == before


def test_add_to_dataset_inbox_folder_names_mean_labels(grown):
    inbox = draw(grown / "inbox", "good/a.png i.O/b.png scratch/c.png new/d.png e.png bad/dent/f.png", seed=1)
    save(inbox / "masks" / "scratch" / "c.png", np.eye(SIDE, dtype=bool))
    result = add(grown, inbox)
    assert result.set_aside == ()
    entries = by_name(open_set(grown))
    labels = {name: (entries[name].label, entries[name].defect) for name in ("good/a.png", "i.O/b.png", "scratch/c.png", "e.png")}
    assert labels == {
        "good/a.png": ("normal", ""),
        "i.O/b.png": ("normal", ""),
        "scratch/c.png": ("anomalous", "scratch"),
        "e.png": ("unlabelled", ""),
    }
    assert (entries["new/d.png"].label, entries["bad/dent/f.png"].defect) == ("unlabelled", "dent")
    assert entries["scratch/c.png"].sample.mask is not None
    assert entries["e.png"].split is None


def test_add_to_dataset_folder_of_a_split_is_refused(grown):
    with pytest.raises(DataError, match=r"train: is named after a split; .*name the folder good"):
        add(grown, draw(grown / "inbox", "train/a.png", seed=1))


def test_add_to_dataset_export_with_anomalies_only_is_read(grown):
    inbox = draw(grown / "inbox", "a.png b.png", seed=1)
    box = {"bbox": [2, 3, 10, 12], "category_id": 1, "area": 120, "iscrowd": 0}
    document = {
        "images": [
            {"id": i, "file_name": name, "width": SIDE, "height": SIDE} for i, name in enumerate(("a.png", "b.png", "gone.png"))
        ],
        "annotations": [{"id": i, "image_id": i, **box} for i in range(3)],
        "categories": [{"id": 1, "name": "scratch"}],
    }
    (inbox / "export.json").write_text(json.dumps(document))
    result = add(grown, inbox)
    assert (result.added, len(result.set_aside)) == (2, 1)
    assert "gone.png" in result.set_aside[0].name
    assert by_name(open_set(grown))["a.png"].sample.boxes == (Box(2, 3, 12, 15),)


# What is set aside


def test_add_to_dataset_export_that_lost_all_annotations_is_refused(grown):
    inbox = draw(grown / "inbox", numbered("{}.png", 3), seed=1)
    images = [{"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE} for i in range(3)]
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "dent"}]}
    (inbox / "annotations.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"no image has an annotation, so all are normal; .*; nothing was added"):
        add(grown, inbox)
    assert [record.number for record in open_set(grown).records()] == [1]


def test_add_to_dataset_unreadable_image_is_set_aside(grown):
    inbox = draw(grown / "inbox", "scratch/y.png scratch/z.png", seed=1)
    (inbox / "scratch" / "z.png").write_bytes((inbox / "scratch" / "z.png").read_bytes()[:200])
    result = add(grown, inbox)
    assert result.added == 1
    assert [(item.name, item.kind) for item in result.set_aside] == [("scratch/z.png", "truncated")]
    record = open_set(grown).latest()
    assert record is not None
    assert record.set_aside == result.set_aside


def test_add_to_dataset_mask_without_image_is_set_aside(grown):
    inbox = draw(grown / "inbox", "scratch/y.png", seed=1)
    save(inbox / "masks" / "scratch" / "gone.png", np.eye(SIDE, dtype=bool))
    result = add(grown, inbox)
    assert (result.added, [item.name for item in result.set_aside]) == (1, ["masks/scratch/gone.png"])


def test_add_to_dataset_line_without_image_is_set_aside(grown):
    inbox = draw(grown / "inbox", "y.png", seed=1)
    as_manifest(inbox, {"image": "y.png", "label": "anomalous"}, {"image": "gone.png", "label": "anomalous"})
    result = add(grown, inbox)
    assert result.added == 1
    assert [(item.name, "does not exist" in item.message) for item in result.set_aside] == [("manifest.jsonl: line 2", True)]


def test_add_to_dataset_image_labelled_both_ways_in_the_inbox_is_set_aside(grown):
    inbox = draw(grown / "inbox", "good/a.png scratch/b.png", seed=1)
    shutil.copy(inbox / "good" / "a.png", inbox / "scratch" / "a.png")
    for relabel in (True, False):
        result = add(grown, inbox, relabel=relabel, dry_run=relabel)
        assert result.added == 1
        assert [(item.name, item.kind) for item in result.set_aside] == [
            ("good/a.png", "conflicting labels"),
            ("scratch/a.png", "conflicting labels"),
        ]


def test_add_to_dataset_other_label_than_the_data_set_is_set_aside(grown):
    inbox = grown / "inbox" / "scratch"
    inbox.mkdir(parents=True)
    shutil.copy(grown / "source" / "good" / "0.png", inbox)
    result = add(grown, inbox.parent)
    assert (result.version, [item.kind for item in result.set_aside]) == (None, ["conflicting labels"])
    assert "good/0.png of the data set is normal" in result.set_aside[0].message


def test_add_to_dataset_relabel_changes_the_label_and_not_the_split(grown):
    before = by_name(open_set(grown))["good/0.png"]
    inbox = grown / "inbox" / "scratch"
    inbox.mkdir(parents=True)
    shutil.copy(grown / "source" / "good" / "0.png", inbox)
    result = add(grown, inbox.parent, relabel=True)
    after = by_name(open_set(grown))["good/0.png"]
    assert (result.added, result.updated) == (0, 1)
    assert (after.label, after.defect, after.split, after.added) == ("anomalous", "scratch", before.split, 1)


# Updates


def test_add_to_dataset_unlabelled_image_gets_its_label_and_a_split(grown):
    add(grown, draw(grown / "inbox", "x.png", seed=1))
    labelled = draw(grown / "labelled", "scratch/x.png", seed=1)
    result = add(grown, labelled)
    entry = by_name(open_set(grown))["x.png"]
    assert (result.added, result.updated) == (0, 1)
    assert (entry.label, entry.defect, entry.split, entry.added, entry.assigned) == ("anomalous", "scratch", "test", 2, 3)


def test_add_to_dataset_mask_and_boxes_are_added_to_a_labelled_image(grown):
    before = by_name(open_set(grown))["bad/dent/0.png"]
    inbox = grown / "inbox"
    inbox.mkdir()
    shutil.copy(grown / "source" / "bad" / "dent" / "0.png", inbox / "x.png")
    save(inbox / "m.png", np.eye(SIDE, dtype=bool))
    line = {"image": "x.png", "label": "anomalous", "mask": "m.png", "boxes": [[0, 0, 5, 5]], "defect": "other"}
    result = add(grown, as_manifest(inbox, line))
    after = by_name(open_set(grown))["bad/dent/0.png"]
    assert (result.added, result.updated) == (0, 1)
    assert (after.split, after.defect, after.sample.boxes) == (before.split, "dent", (Box(0, 0, 5, 5),))
    reread = open_folder(grown / "set")
    sample = next(sample for sample in reread.samples if sample.id == before.id)
    assert isinstance(sample.mask, Path)
    assert sample.mask.is_file()
    assert reread.version is not None
    assert fingerprint(reread) == reread.version.fingerprint
    assert add(grown, inbox).version is None


def test_add_to_dataset_relabel_replaces_a_mask(grown):
    source = draw_folder(grown / "masked", 0, 1, SIDE, seed=5)
    add(grown, source)
    save(source / "masks" / "scratch" / "000.png", np.eye(SIDE, dtype=bool))
    assert add(grown, source).version is None
    assert add(grown, source, relabel=True).updated == 1
    assert add(grown, source, relabel=True).version is None


# Groups and near duplicates


def test_add_to_dataset_group_follows_its_split(tmp_path):
    create(tmp_path)
    for number in range(4):
        inbox = draw(tmp_path / f"inbox{number}", "a.png b.png c.png", seed=number)
        lines = [
            {"image": f"{name}.png", "label": label, "group": "board"}
            for name, label in zip("abc", ["normal", "anomalous", "normal"], strict=True)
        ]
        add(tmp_path, as_manifest(inbox, *lines))
    entries = open_set(tmp_path).samples()
    assert (len(entries), len({entry.split for entry in entries})) == (12, 1)


def test_add_to_dataset_group_that_was_cut_follows_most_of_its_images(tmp_path):
    names = [f"{i}.png" for i in range(12)]
    draw(tmp_path / "source", " ".join(names))
    splits = ["train", "val", "test"] + ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    lines = [
        {"image": name, "label": "normal", "split": split, "group": "board" if i in (0, 1, 6, 7) else None}
        for i, (name, split) in enumerate(zip(names, splits, strict=True))
    ]
    create(tmp_path, as_manifest(tmp_path / "source", *lines))
    inbox = draw(tmp_path / "inbox", "x.png y.png", seed=1)
    add(tmp_path, as_manifest(inbox, *({"image": name, "label": "anomalous", "group": "board"} for name in ("x.png", "y.png"))))
    assert {entry.split for entry in open_set(tmp_path).samples() if entry.added == 2} == {"val"}


def near_copy(path: Path, target: Path) -> None:
    """A copy with other noise in a few pixels."""
    from PIL import Image

    pixels = np.array(Image.open(path))
    pixels[:2] = np.minimum(pixels[:2] + 2, 255)
    save(target, pixels)


def test_add_to_dataset_near_duplicate_in_another_split_is_set_aside(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(20):
        save(tmp_path / "source" / "good" / f"{i}.png", texture(128, rng))
    create(tmp_path, tmp_path / "source")
    for name, entry in by_name(open_set(tmp_path)).items():
        if entry.split == "test":
            near_copy(tmp_path / "source" / name, tmp_path / "inbox" / name)
    near_copy(tmp_path / "source" / "good" / "0.png", tmp_path / "other" / "scratch" / "0.png")
    result = add(tmp_path, tmp_path / "inbox", dry_run=True)
    assert {item.kind for item in result.set_aside} == {"near duplicate, other split"}
    assert result.added + len(result.set_aside) == 4
    assert "its near duplicate files/" in result.set_aside[0].message
    assert [item.kind for item in add(tmp_path, tmp_path / "other").set_aside] == ["near duplicate, other label"]


def test_add_to_dataset_near_duplicates_of_one_inbox_stay_together(tmp_path):
    create(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(12):
        near = save(tmp_path / "inbox" / "scratch" / f"{i}a.png", texture(128, rng))
        near_copy(near, tmp_path / "inbox" / "scratch" / f"{i}b.png")
    result = add(tmp_path, tmp_path / "inbox")
    assert (result.added, result.set_aside) == (24, ())
    entries = by_name(open_set(tmp_path))
    for i in range(12):
        assert entries[f"scratch/{i}a.png"].split == entries[f"scratch/{i}b.png"].split


# Refused


def test_add_to_dataset_overlapping_source_is_refused(grown):
    for source in (grown / "set", grown / "set" / "files", grown):
        with pytest.raises(DataError, match=r"neither may contain the other"):
            add(grown, source)


@pytest.mark.parametrize("source", ["nowhere", "https://x/y"])
def test_add_to_dataset_missing_source_is_refused(grown, source):
    with pytest.raises(DataError, match=r"no such folder|cannot read data from https"):
        add(grown, source)


def test_add_to_dataset_without_data_set_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"is not a data set with versions .*'adjobs dataset create'"):
        add(tmp_path, draw(tmp_path / "inbox", "a.png"))


def test_add_to_dataset_newer_layout_is_refused(grown):
    path = grown / "set" / "adjobs-dataset.json"
    path.write_text(path.read_text().replace(f'"layout": {LAYOUT}', '"layout": 99'))
    with pytest.raises(DataError, match=r"newer version of adjobs \(layout 99; this one reads 1\); update adjobs"):
        add(grown, grown / "source")


def test_add_to_dataset_lost_descriptors_are_named(grown):
    path = next((grown / "set" / "descriptors").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DamagedError, match=r"descriptors/.*is damaged .*restore it from a backup"):
        add(grown, draw(grown / "inbox", "scratch/x.png", seed=1))
