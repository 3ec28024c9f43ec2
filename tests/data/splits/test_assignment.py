from __future__ import annotations

import dataclasses
import json

import pytest

from adjobs.data.splits.assignment import SplitAssignment, check_split, make_split, read_split, write_split
from adjobs.errors import DataError, JobError
from tests.helpers.datasets import count_labels, make_dataset

MTD = make_dataset(952, {"blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103})


def test_to_dict_from_dict_round_trip():
    split = make_split(MTD, "liac", max_train_anomalies=10, seed=5)
    assert SplitAssignment.from_dict(json.loads(json.dumps(split.to_dict()))) == split
    assert list(split.to_dict()) == ["protocol", "seed", "train", "val", "test"]
    with pytest.raises(DataError, match=r"^stored split: KeyError\('train'\); it must have protocol, seed, train, val and test"):
        SplitAssignment.from_dict({"protocol": "liac", "seed": 0})


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        (
            "holdut",
            {},
            r"^unknown protocol 'holdut'; available: budget, dpae, holdout, liac, official; did you mean 'holdout'\?$",
        ),
        (
            "liac",
            {"max_train_anomalies": 81},
            r"^max_train_anomalies is 81; protocol liac has 80 anomalous images for training; choose 0 to 80, or label more$",
        ),
        ("liac", {"max_train_anomalies": -1}, r"^max_train_anomalies is -1; protocol liac has 80"),
        ("liac", {"seed": -1}, r"^seed is -1; it must be 0 or more"),
    ],
)
def test_make_split_invalid_settings_are_refused(protocol, options, message):
    with pytest.raises(JobError, match=message):
        make_split(MTD, protocol, **options)


def test_make_split_missing_labels_are_refused():
    with pytest.raises(
        DataError,
        match=r"^protocol official: the data set has no published splits .*; choose one of budget, dpae, holdout, liac$",
    ):
        make_split(MTD, "official")
    message = (
        r"^protocol holdout would give train 3 normal and 0 anomalous, val 1 normal and 1 anomalous, test 1 normal and 0 "
        r"anomalous; each split needs a normal image and test also an anomalous one; add images or choose another protocol$"
    )
    with pytest.raises(DataError, match=message):
        make_split(make_dataset(5, {"a": 1}), "holdout")
    with pytest.raises(DataError, match=r"test 0 normal .*; each split needs a normal image; add images or"):
        make_split(make_dataset(2, {}), "holdout")
    with pytest.raises(DataError, match=r"train 1 normal and 3 anomalous, val 0 normal and 1 anomalous"):
        make_split(make_dataset(3, {"a": 6}), "liac")


@pytest.mark.parametrize(
    ("protocol", "sizes"),
    [
        ("budget", (60, 20, 20)),
        ("dpae", (60, 20, 20)),
        ("holdout", (60, 20, 20)),
        ("liac", (60, 20, 20)),
        ("official", (64, 16, 20)),
    ],
)
def test_make_split_normal_images_alone_are_split_by_every_protocol(protocol, sizes):
    dataset = make_dataset(100, {})
    if protocol == "official":
        splits = ["test"] * 20 + ["train"] * 80
        published = [dataclasses.replace(s, published_split=name) for s, name in zip(dataset.samples, splits, strict=True)]
        dataset = dataclasses.replace(dataset, samples=tuple(published))
    split = make_split(dataset, protocol)
    assert count_labels(dataset, split) == [(size, 0) for size in sizes]
    assert check_split(dataset, split) == split


def test_check_split_stored_split_must_fit_the_dataset(tmp_path):
    split = make_split(MTD, "liac", max_train_anomalies=10, seed=5)
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split
    assert check_split(MTD, split) == split
    left_out = split.train[0]
    fewer = dataclasses.replace(MTD, samples=tuple(s for s in MTD.samples if s.id != left_out))
    assert check_split(fewer, split, [left_out]).train == split.train[1:]
    with pytest.raises(DataError, match=rf"^split: {left_out} is not a labelled sample of root; a split belongs to one data set"):
        check_split(fewer, split)
    with pytest.raises(DataError, match=r"is listed 2 times; an image belongs to one split"):
        check_split(MTD, dataclasses.replace(split, val=split.val + split.train[:1]))
    with pytest.raises(DataError, match=r"^the split has train 571 normal and 10 anomalous, val 0 normal and 0 anomalous, .*"):
        check_split(MTD, dataclasses.replace(split, val=()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", r"cannot be read \(Expecting value"),
        ("[]", "contains a list; expected a mapping"),
        ("[" * 100_000, "cannot be read"),
        ('{"protocol": "x", "seed": Infinity, "train": [], "val": [], "test": []}', "stored split: OverflowError"),
        ('{"protocol": "x", "seed": 0, "train": "abc", "val": [], "test": []}', "train, val and test must be lists"),
    ],
)
def test_read_split_invalid_file_is_refused(tmp_path, text, message):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_split(path)
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        read_split(tmp_path / "missing.json")
