"""All formats: recognition, and images and masks that do not fit a layout."""

from __future__ import annotations

import numpy as np
import pytest

from adjobs.data import formats
from adjobs.data.dataset import fingerprint
from adjobs.data.labels.masks import read_mask
from adjobs.data.open import open_dataset
from adjobs.data.problem import LAYOUT
from adjobs.errors import DataError
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import save, texture
from tests.helpers.layouts import LAYOUTS


def test_load_formats_every_format_has_a_drawing():
    assert list(LAYOUTS) == list(formats.load_formats())


@pytest.mark.parametrize("name", LAYOUTS)
def test_recognises_each_layout_matches_one_format(name, tmp_path):
    root = LAYOUTS[name](tmp_path / "set")
    (root / ".hidden").mkdir()
    save(root / ".hidden" / "x.png", texture(16, np.random.default_rng(0)))
    assert [other for other, reader in formats.load_formats().items() if reader.recognises(root)] == [name]
    dataset = open_folder(root)
    assert dataset == open_folder(root, name)
    assert (dataset.format, dataset.root) == (name, root)
    ids = [sample.id for sample in dataset.samples]
    assert ids == sorted(set(ids))
    assert not any("hidden" in name for name in ids)
    for sample in dataset.samples:
        assert sample.image == root / sample.id
        assert all(file.is_file() for file in sample.files)
        assert sample.mask is None or read_mask(sample.mask).any() == (sample.label == "anomalous")
        assert sample.label == "anomalous" or (sample.defect, sample.boxes) == ("", None)
    assert len(fingerprint(dataset)) == 64


@pytest.mark.parametrize("name", formats.load_formats())
def test_description_is_one_short_line(name):
    text = formats.load_formats()[name].DESCRIPTION
    assert "\n" not in text
    assert 20 < len(text) < 140


@pytest.mark.parametrize("name", formats.load_formats())
def test_recognises_empty_folder_matches_no_format(name, tmp_path):
    assert not formats.load_formats()[name].recognises(tmp_path)
    assert not formats.load_formats()[name].recognises(tmp_path / "missing")


def _add(name):
    return lambda root: save(root / name, texture(16, np.random.default_rng(0)))


def _remove(name):
    return lambda root: (root / name).unlink()


@pytest.mark.parametrize(
    ("layout", "spoil", "message"),
    [
        (
            "folder",
            _add("scratches/x.png"),
            r"scratches/x.png: does not fit the layout; images belong in good/ .*; move or remove",
        ),
        ("folder", _add("masks/scratch/099.png"), r"masks/scratch/099.png: mask belongs to no image; .*; rename or remove it$"),
        (
            "folder",
            _add("masks/scratch/000.bmp"),
            r"masks/scratch/000.png: is a mask of the same image as masks/scratch/000.bmp; keep one$",
        ),
        ("folder", _add("bad/scratch/000.bmp"), r"masks/scratch/000.png: is the mask of two images, whose names differ only"),
        ("folder", _add("Good/000.png"), r"has both Good/ and good/, whose names mean the same; merge them into one$"),
        ("mvtec", _add("test/flat.png"), r"test/flat.png: does not fit the layout; images belong in train/good/"),
        ("mvtec", _remove("test/scratch/000.png"), r"ground_truth/scratch/000_mask.png: mask belongs to no image"),
        ("mtd", _remove("MT_Break/Imgs/exp1_num_9000.jpg"), r"MT_Break/Imgs/exp1_num_9000.png: mask belongs to no image; x.png"),
        ("btad", _remove("test/ko/0000.bmp"), r"ground_truth/ko/0000.png: mask belongs to no image; ground_truth/ko/x.png is"),
        ("mvtec3d", _remove("test/hole/rgb/000.png"), r"test/hole/gt/000.png: mask belongs to no image; gt/x.png is the mask of"),
        ("mvtec3d", _add("test/hole/000.png"), r"test/hole/000.png: does not fit the layout; images belong in \{train,"),
        ("mvtec3d", _add("extra/000.png"), r"extra/000.png: does not fit the layout"),
        ("visa", _remove("Data/Images/Anomaly/000.JPG"), r"1cls.csv: line 18 names .*Anomaly/000.JPG, which does not exist"),
        ("visa", _add("Data/Masks/Anomaly/777.png"), r"Data/Masks/Anomaly/777.png: mask belongs to no image; Data/Masks"),
        (
            "visa",
            _add("Data/Images/Odd/0.JPG"),
            r"Data/Images/Odd/0.JPG: does not fit the layout; images belong in Data/Images/\{",
        ),
        (
            "loco",
            _remove("test/logical_anomalies/000.png"),
            r"logical_anomalies/000/000.png \(and 1 more\): does not fit the layout;",
        ),
        ("loco", _add("extra/000.png"), r"extra/000.png: does not fit the layout; images belong in train/good/"),
        ("ksdd2", _remove("train/10001.png"), r"train/10001_GT.png: mask belongs to no image; x_GT.png is the mask of x.png"),
        ("ksdd2", _remove("test/20100_GT.png"), r"test/20100.png: image has no mask; x_GT.png .*; add the missing file$"),
        ("ksdd2", _add("more/1.png"), r"more/1.png: does not fit the layout; images belong in train/ and test/"),
        (
            "oct",
            _add("train/AMD/AMD-1-1.jpeg"),
            r"train/AMD/AMD-1-1.jpeg: does not fit the layout; images belong in \{train,val,test",
        ),
        (
            "oct",
            _add("train/CNV/scan.jpeg"),
            r"train/CNV/scan.jpeg: its name has no patient number; expected .* such as CNV-1016042-12.jpeg",
        ),
    ],
)
def test_read_files_outside_the_layout_are_refused(layout, spoil, message, tmp_path):
    root = LAYOUTS[layout](tmp_path / "set")
    spoil(root)
    with pytest.raises(DataError, match=message) as raised:
        open_folder(root, layout)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("layout", "spoil", "files"),
    [
        ("folder", ["scratches/x.png", "masks/scratch/099.png", "masks/scratch/000.bmp"], 3),
        ("mvtec", ["test/flat.png", "extra/1.png", "ground_truth/scratch/777_mask.png"], 3),
        ("btad", ["test/flat.png", "ground_truth/ko/777.png"], 2),
        ("mvtec3d", ["test/hole/000.png", "extra/1.png", "test/hole/gt/777.png"], 3),
        ("visa", ["Data/Images/Odd/0.JPG", "Data/Masks/Anomaly/777.png"], 2),
        ("loco", ["extra/1.png", "ground_truth/logical_anomalies/777/000.png"], 2),
        ("ksdd2", ["more/1.png", "train/777_GT.png", "test/778.png"], 3),
        ("mtd", ["MT_Break/Imgs/exp1_num_777.png", "MT_Blowhole/Imgs/exp1_num_778.png"], 2),
        ("oct", ["train/AMD/AMD-1-1.jpeg", "train/CNV/scan.jpeg"], 2),
        ("yolo", ["bad.jpg", "other/bad.jpg"], 2),
    ],
)
def test_read_all_files_outside_the_layout_are_listed(layout, spoil, files, tmp_path):
    root = LAYOUTS[layout](tmp_path / "set")
    before = open_folder(root, layout)
    for name in spoil:
        _add(name)(root)
    dataset = open_dataset(str(root), layout, cache=tmp_path, list_faults=True)
    faults = [problem for problem in dataset.problems if problem.kind == LAYOUT]
    assert len({problem.sample for problem in faults}) == len(faults) == files
    assert {problem.severity for problem in faults} == {"error"}
    assert {sample.id for sample in before.samples} <= {sample.id for sample in dataset.samples}
    with pytest.raises(DataError, match=r"'adjobs data check' lists all$"):
        open_folder(root, layout)
