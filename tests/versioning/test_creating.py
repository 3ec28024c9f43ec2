from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from adjobs.data.dataset import Dataset
from adjobs.data.labels.masks import Layers, Shapes
from adjobs.data.splits.assignment import make_split
from adjobs.data.versions.record import Shares, SplitRule
from adjobs.errors import DataError, JobError
from tests.data.test_importing import DRAW
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_coco, draw_folder, draw_loco, draw_mvtec
from tests.helpers.versioned import SIDE, add, by_name, create, draw, numbered, open_set


def test_create_dataset_empty_has_no_version(tmp_path):
    assert create(tmp_path).version is None
    assert open_set(tmp_path).latest() is None
    assert open_set(tmp_path).records() == ()
    with pytest.raises(DataError, match=r"is empty; it has no version yet; add images with 'adjobs dataset add'"):
        open_folder(tmp_path / "set")


@pytest.mark.parametrize(("protocol", "expected"), [(None, "holdout"), ("liac", "liac")])
def test_create_dataset_keeps_the_splits_of_the_protocol(protocol, expected, tmp_path):
    source = draw_folder(tmp_path / "source", 20, 10, SIDE)
    create(tmp_path, source, protocol, SplitRule(seed=3))
    split = make_split(open_folder(source), expected, seed=3)
    splits = {name: entry.split for name, entry in by_name(open_set(tmp_path)).items()}
    assert splits == {name: split_name for split_name in ("train", "val", "test") for name in getattr(split, split_name)}


def test_create_dataset_published_splits_are_kept(tmp_path):
    source = open_folder(draw_loco(tmp_path / "source"))
    create(tmp_path, source.root)
    entries = by_name(open_set(tmp_path))
    assert {sample.id: sample.published_split for sample in source.samples} == {name: e.split for name, e in entries.items()}


def test_create_dataset_published_train_and_val_alone_are_split_by_holdout(tmp_path):
    source = draw_coco(tmp_path / "source")
    document = source / "annotations" / "instances_default.json"
    coco = json.loads(document.read_text())
    for number, image in enumerate(coco["images"]):
        folder = ("train", "val")[number % 2]
        (source / folder).mkdir(exist_ok=True)
        (source / "images" / image["file_name"]).rename(source / folder / image["file_name"])
        image["file_name"] = f"{folder}/{image['file_name']}"
    document.write_text(json.dumps(coco))
    create(tmp_path, source)
    assert {entry.split for entry in by_name(open_set(tmp_path)).values()} == {"train", "val", "test"}


def test_create_dataset_official_split_of_a_version_is_the_one_at_creation(tmp_path):
    create(tmp_path, draw_mvtec(tmp_path / "source", 20, 4, SIDE))
    entries = open_set(tmp_path).samples()
    split = make_split(open_folder(tmp_path / "set"), "official", seed=5)
    for split_name in ("train", "val", "test"):
        assert list(getattr(split, split_name)) == [entry.id for entry in entries if entry.split == split_name]


def draw_source(name: str, root: Path) -> Dataset:
    DRAW[name](root)
    if name == "manifest":  # more normal images, so that it can be split
        names = numbered("more/{}.png", 12)
        draw(root, names, seed=7)
        with (root / "manifest.jsonl").open("a") as file:
            file.writelines("\n" + json.dumps({"image": image, "label": "normal"}) for image in names.split())
    return open_folder(root)


@pytest.mark.parametrize("name", DRAW)
def test_create_dataset_keeps_all_labels(name, tmp_path):
    source = draw_source(name, tmp_path / "source")
    create(tmp_path, source.root, "official" if name == "loco" else "holdout")
    copies = {sample.id.split("/", 2)[2]: sample for sample in open_folder(tmp_path / "set").samples}
    for sample in source.samples:
        copy = copies.pop(sample.id)
        assert (copy.label, copy.defect, copy.group, copy.boxes) == (sample.label, sample.defect, sample.group, sample.boxes)
        assert [path.read_bytes() for path in copy.files] == [path.read_bytes() for path in sample.files]
        assert type(copy.mask) is type(sample.mask)
        assert not isinstance(copy.mask, Shapes) or copy.mask == sample.mask
        assert not isinstance(copy.mask, Layers) or bool(copy.mask.kinds) == bool(sample.mask.kinds)
    assert copies == {}


def test_create_dataset_unlabelled_images_have_no_split(tmp_path):
    source = draw_source("manifest", tmp_path / "source")
    create(tmp_path, source.root, "holdout")
    assert by_name(open_set(tmp_path))["open.png"].split is None


def test_create_dataset_later_additions_do_not_even_out_the_first_version(tmp_path):
    create(tmp_path, draw(tmp_path / "source", f"{numbered('good/{}.png', 30)} {numbered('bad/scratch/{}.png', 30)}"))
    add(tmp_path, draw(tmp_path / "inbox", numbered("scratch/{}.png", 4), seed=1))
    splits = sorted(str(entry.split) for entry in open_set(tmp_path).samples() if entry.added == 2)
    assert splits == ["test", "test", "train", "train"]


def test_create_dataset_copies_are_left_out(tmp_path):
    source = draw(tmp_path / "source", numbered("good/{}.png", 10))
    shutil.copy(source / "good" / "0.png", source / "good" / "copy.png")
    result = create(tmp_path, source)
    assert result.version is not None
    assert (result.version.images, result.version.duplicates) == (10, 1)


def test_create_dataset_copies_that_show_different_defects_are_set_aside(tmp_path):
    source = draw(tmp_path / "source", f"{numbered('good/{}.png', 10)} bad/scratch/x.png")
    (source / "bad" / "dent").mkdir()
    shutil.copyfile(source / "bad" / "scratch" / "x.png", source / "bad" / "dent" / "y.png")
    created = create(tmp_path, source)
    assert created.version is not None
    assert [(item.name, item.kind) for item in created.version.set_aside] == [
        ("bad/dent/y.png", "conflicting labels"),
        ("bad/scratch/x.png", "conflicting labels"),
    ]
    assert created.version.added == 10


def test_create_dataset_unusable_images_are_set_aside(tmp_path):
    source = draw(tmp_path / "source", numbered("good/{}.png", 10))
    (source / "bad").mkdir()
    shutil.copy(source / "good" / "0.png", source / "bad" / "0.png")
    (source / "good" / "9.png").write_bytes(b"")
    result = create(tmp_path, source)
    assert result.version is not None
    assert result.version.images == 8
    assert [item.name for item in result.version.set_aside] == ["bad/0.png", "good/0.png", "good/9.png"]


def test_create_dataset_same_arguments_change_nothing(tmp_path):
    source = draw(tmp_path / "source", numbered("good/{}.png", 10))
    first = create(tmp_path, source)
    add(tmp_path, draw(tmp_path / "inbox", "good/x.png", seed=1))
    again = create(tmp_path, source)
    assert (again.version, again.is_new) == (first.version, False)
    assert len(open_set(tmp_path).records()) == 2


def test_create_dataset_other_arguments_are_refused(tmp_path):
    source = draw(tmp_path / "source", numbered("good/{}.png", 10))
    create(tmp_path, source)
    with pytest.raises(DataError, match=r"was created with another split rule; .*'adjobs dataset add'"):
        create(tmp_path, source, rule=SplitRule(seed=1))
    with pytest.raises(DataError, match=r"was created with other data, or none"):
        create(tmp_path)
    draw(source, "good/new.png", seed=3)
    with pytest.raises(DataError, match=r"was created with other data, or none"):
        create(tmp_path, source)


def test_create_dataset_in_a_folder_with_something_else_is_refused(tmp_path):
    draw(tmp_path / "set", "good/x.png")
    with pytest.raises(DataError, match=r"set: is not empty \(good/x.png\); choose another address"):
        create(tmp_path)


def test_create_dataset_shares_that_do_not_add_up_are_refused(tmp_path):
    with pytest.raises(JobError, match=r"shares of normal images: got 0.6 0.2 0.1; give three numbers"):
        create(tmp_path, rule=SplitRule(normal=Shares(0.6, 0.2, 0.1)))
    assert not (tmp_path / "set").exists()


def test_create_dataset_interrupted_creation_cannot_be_added_to(tmp_path):
    source = draw(tmp_path / "source", numbered("good/{}.png", 10))
    create(tmp_path, source)
    (tmp_path / "set" / "versions" / "00000001.json").unlink()
    with pytest.raises(DataError, match=r"its first version is not complete; run the same 'adjobs dataset create' again"):
        add(tmp_path, draw(tmp_path / "inbox", "good/x.png", seed=1))


def test_create_dataset_of_a_version_has_its_images_and_splits(tmp_path):
    source = draw_folder(tmp_path / "source", 20, 10, SIDE)
    create(tmp_path, source)
    create(tmp_path / "second", tmp_path / "set")
    first, second = ({e.digest: (e.label, e.split) for e in open_set(f).samples()} for f in (tmp_path, tmp_path / "second"))
    assert first == second


def test_create_dataset_header_is_json(tmp_path):
    create(tmp_path)
    document = json.loads((tmp_path / "set" / "adjobs-dataset.json").read_text())
    assert document["layout"] == 1
    assert document["rule"] == {"seed": 0, "normal": [0.6, 0.2, 0.2], "anomalous": [0.5, 0.0, 0.5]}
