from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adjobs.data.dataset import Dataset, Sample
from adjobs.data.open import open_dataset
from adjobs.data.splits.assignment import SplitAssignment, check_split, make_split, read_split, write_split
from adjobs.data.splits.protocols import PROTOCOLS
from adjobs.errors import DataError, JobError


def made(normals: int, defects: dict[str, int], unlabelled: int = 0) -> Dataset:
    """An index without files."""
    samples = [Sample(f"good/{i:04}.png", Path("x"), "normal") for i in range(normals)]
    for defect, count in defects.items():
        samples += [Sample(f"bad/{defect}/{i:04}.png", Path("x"), "anomalous", defect=defect) for i in range(count)]
    samples += [Sample(f"new/{i:04}.png", Path("x"), "unlabelled") for i in range(unlabelled)]
    return Dataset(Path("root"), "folder", tuple(sorted(samples, key=lambda sample: sample.id)))


MTD = made(952, {"blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103})
ELPV = made(1508, {"p=0.33": 295, "p=0.67": 106, "p=1.00": 715})


def counts(index: Dataset, split: SplitAssignment, defect: str | None = None) -> list[tuple[int, int]]:
    """(normal, anomalous) images in train, val and test."""
    of = {sample.id: sample for sample in index.samples}
    parts = [[of[name] for name in part] for part in (split.train, split.val, split.test)]
    return [
        (sum(s.label == "normal" for s in part), sum(s.label == "anomalous" and defect in (None, s.defect) for s in part))
        for part in parts
    ]


def assert_sound(index: Dataset, split: SplitAssignment) -> None:
    names = [*split.train, *split.val, *split.test]
    assert len(names) == len(set(names))
    assert set(names) <= {sample.id for sample in index.samples if sample.label != "unlabelled"}
    assert all(list(part) == sorted(part) for part in (split.train, split.val, split.test))


@pytest.mark.parametrize(
    ("index", "expected"),
    [(MTD, [(571, 80), (190, 154), (191, 158)]), (ELPV, [(904, 80), (301, 517), (303, 519)])],
    ids=["mtd", "elpv"],
)
def test_liac_has_the_published_sizes(index, expected):
    for seed in range(3):
        split = make_split(index, "liac", seed=seed)
        assert counts(index, split) == expected
        assert_sound(index, split)


@pytest.mark.parametrize("protocol", ["liac", "holdout"])
def test_k_is_nested_and_leaves_the_rest_alone(protocol):
    whole = make_split(MTD, protocol, seed=3)
    for small, large in [(0, 10), (10, 20), (20, 40), (40, 73)]:
        a, b = (
            make_split(MTD, protocol, max_train_anomalies=small, seed=3),
            make_split(MTD, protocol, max_train_anomalies=large, seed=3),
        )
        assert set(a.train) < set(b.train) <= set(whole.train)
        assert counts(MTD, a)[0] == (counts(MTD, whole)[0][0], small)
        assert (a.val, a.test) == (b.val, b.test) == (whole.val, whole.test)


def test_liac_takes_k_from_each_type_in_turn():
    split = make_split(MTD, "liac", max_train_anomalies=10)
    assert [counts(MTD, split, defect)[0][1] for defect in ("blowhole", "break", "crack", "fray", "uneven")] == [2] * 5


def test_liac_reserves_at_most_half():
    index = made(10, {"a": 7, "b": 1})
    assert counts(index, make_split(index, "liac")) == [(6, 3), (2, 2), (2, 3)]


def test_holdout_shares():
    index = made(100, {"a": 50, "b": 20, "c": 5}, unlabelled=7)
    split = make_split(index, "holdout")
    assert counts(index, split) == [(60, 15), (20, 30), (20, 30)]
    for defect, expected in {"a": [10, 20, 20], "b": [4, 8, 8], "c": [1, 2, 2]}.items():
        assert [anomalous for _, anomalous in counts(index, split, defect)] == expected
    assert_sound(index, split)


def test_holdout_spreads_types_with_one_image():
    index = made(10, dict.fromkeys("abcdefghij", 1))
    assert [anomalous for _, anomalous in counts(index, make_split(index, "holdout"))] == [2, 4, 4]


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from([None, *"pqrstuvw"])), max_size=60), st.integers(0, 9))
def test_holdout_never_divides_a_group(kinds, seed):
    samples = [
        Sample(f"{i:03}", Path("x"), "anomalous" if defect else "normal", defect=defect, group=group)
        for i, (defect, group) in enumerate(kinds)
    ]
    plenty = [Sample(f"good/{i}", Path("x"), "normal") for i in range(30)] + [
        Sample(f"bad/{i}", Path("x"), "anomalous", defect="c") for i in range(30)
    ]
    index = Dataset(Path("root"), "folder", tuple(samples + plenty))
    split = make_split(index, "holdout", seed=seed)
    assert_sound(index, split)
    place = {name: part for part in ("train", "val", "test") for name in getattr(split, part)}
    assert len(place) == len(index.samples)
    groups: dict[str, set[str]] = {}
    for sample in samples:
        if sample.group:
            groups.setdefault(sample.group, set()).add(place[sample.id])
    assert all(len(parts) == 1 for parts in groups.values())


def test_holdout_of_groups_keeps_the_shares():
    index = made(600, {"a": 300})
    tiles = tuple(dataclasses.replace(sample, group=f"{sample.label}{int(sample.id[-8:-4]) // 6}") for sample in index.samples)
    index = dataclasses.replace(index, samples=tiles)
    assert counts(index, make_split(index, "holdout")) == [(360, 60), (120, 120), (120, 120)]


def test_official_keeps_the_published_parts(mvtec_root):
    index = open_dataset(str(mvtec_root), cache=Path("unused"))
    split = make_split(index, "official")
    assert counts(index, split) == [(12, 0), (3, 0), (5, 10)]  # 15 published for training, a fifth of them validate
    assert set(split.test) == {sample.id for sample in index.samples if sample.published_split == "test"}
    assert make_split(index, "official", seed=1).val != split.val
    with pytest.raises(
        JobError,
        match=r"^max_train_anomalies is 1; protocol official has 0 anomalous images for training; choose 0 to 0, or label more$",
    ):
        make_split(index, "official", max_train_anomalies=1)


def published(*parts: tuple[str, str, int]) -> Dataset:
    samples = [
        Sample(f"{part}/{label}/{i}", Path("x"), label, published_split=part)
        for part, label, count in parts
        for i in range(count)
    ]
    return Dataset(Path("root"), "mvtec", tuple(sorted(samples, key=lambda sample: sample.id)))


def test_official_with_published_validation_and_training_anomalies():
    index = published(
        ("train", "normal", 9), ("train", "anomalous", 4), ("val", "normal", 2), ("test", "normal", 1), ("test", "anomalous", 3)
    )
    split = make_split(index, "official", max_train_anomalies=3)
    assert counts(index, split) == [(9, 3), (2, 0), (1, 3)]
    assert set(make_split(index, "official", max_train_anomalies=2).train) < set(split.train)


def test_official_takes_at_least_one_for_validation():
    index = published(("train", "normal", 2), ("test", "normal", 1), ("test", "anomalous", 1))
    assert counts(index, make_split(index, "official")) == [(1, 0), (1, 0), (1, 1)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_depends_on_seed_and_ids_alone(protocol):
    index = published(("train", "normal", 40), ("train", "anomalous", 20), ("test", "normal", 40), ("test", "anomalous", 30))
    shuffled = list(index.samples)
    random.Random(0).shuffle(shuffled)
    moved = [dataclasses.replace(sample, image=Path("elsewhere")) for sample in shuffled]
    max_train_anomalies = 0 if protocol == "dpae" else 5  # it learns from normal images alone
    split = make_split(index, protocol, max_train_anomalies=max_train_anomalies, seed=7)
    assert (
        make_split(dataclasses.replace(index, samples=tuple(moved)), protocol, max_train_anomalies=max_train_anomalies, seed=7)
        == split
    )
    assert make_split(index, protocol, max_train_anomalies=max_train_anomalies, seed=8) != dataclasses.replace(split, seed=8)


def test_stored_as_json():
    split = make_split(MTD, "liac", max_train_anomalies=10, seed=5)
    assert SplitAssignment.from_dict(json.loads(json.dumps(split.to_dict()))) == split
    assert list(split.to_dict()) == ["protocol", "seed", "train", "val", "test"]
    with pytest.raises(DataError, match=r"^stored split: KeyError\('train'\); needed are protocol, seed, train, val and test"):
        SplitAssignment.from_dict({"protocol": "liac", "seed": 0})


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("holdut", {}, r"^holdut: no such protocol; have budget, dpae, holdout, liac, official; did you mean holdout\?$"),
        (
            "liac",
            {"max_train_anomalies": 81},
            r"^max_train_anomalies is 81; protocol liac has 80 anomalous images for training; choose 0 to 80, or label more$",
        ),
        ("liac", {"max_train_anomalies": -1}, r"^max_train_anomalies is -1; protocol liac has 80"),
        ("liac", {"seed": -1}, r"^seed is -1; allowed is 0 or more"),
    ],
)
def test_wrong_jobs(protocol, options, message):
    with pytest.raises(JobError, match=message):
        make_split(MTD, protocol, **options)


def test_data_that_does_not_suffice():
    with pytest.raises(
        DataError, match=r"^protocol official: the data set has no published parts .*; choose one of budget, dpae, holdout, liac$"
    ):
        make_split(MTD, "official")
    message = (
        r"^protocol holdout would give train 3 normal and 0 anomalous, val 1 normal and 0 anomalous, test 1 normal and 0 "
        r"anomalous; each part needs a normal image and test an anomalous one too; add images or choose another protocol$"
    )
    with pytest.raises(DataError, match=message):
        make_split(made(5, {}), "holdout")
    with pytest.raises(DataError, match=r"train 1 normal and 3 anomalous, val 0 normal and 1 anomalous"):
        make_split(made(3, {"a": 6}), "liac")


def test_liac_on_a_published_test_part_keeps_it_and_validates_alike():
    kinds = ("CNV", "DME", "DRUSEN")
    oct_ = [Sample(f"test/N/{i}", Path("x"), "normal", published_split="test") for i in range(24)]
    oct_ += [Sample(f"train/N/{i}", Path("x"), "normal", published_split="train", group=f"p{i // 3}") for i in range(3000)]
    for kind in kinds:
        oct_ += [Sample(f"test/{kind}/{i}", Path("x"), "anomalous", defect=kind, published_split="test") for i in range(24)]
        oct_ += [Sample(f"train/{kind}/{i}", Path("x"), "anomalous", defect=kind, published_split="train") for i in range(100)]
    index = Dataset(Path("root"), "oct", tuple(sorted(oct_, key=lambda sample: sample.id)))
    split = make_split(index, "liac", max_train_anomalies=40)
    assert counts(index, split) == [(2000, 40), (24, 72), (24, 72)]
    assert set(split.test) == {sample.id for sample in oct_ if sample.published_split == "test"}
    assert [anomalous for kind in kinds for _, anomalous in counts(index, split, kind)[:1]] == [14, 13, 13]
    groups = {sample.id: sample.group for sample in oct_}
    assert not {groups[i] for i in split.train} & {groups[i] for i in split.val} - {None}
    assert_sound(index, split)


def test_dpae_has_the_published_sizes():
    tiles = dataclasses.replace(MTD, format="mtd")
    for seed in range(2):
        assert counts(tiles, make_split(tiles, "dpae", seed=seed)) == [(330, 0), (142, 0), (142, 392)]
    carpet = published(("train", "normal", 280), ("test", "normal", 28), ("test", "anomalous", 89))
    assert counts(carpet, make_split(carpet, "dpae")) == [(224, 0), (56, 0), (28, 89)]
    rails = made(900, {"a": 450})
    assert counts(rails, make_split(rails, "dpae")) == [(500, 0), (150, 0), (150, 450)]  # RSD: 500/150+450
    few = made(10, {"a": 50})
    assert_sound(few, make_split(few, "dpae"))
    assert counts(few, make_split(few, "dpae")) == [(6, 0), (2, 0), (2, 50)]


def test_budget_takes_ten_anomalies_out_of_the_test_part():
    index = published(("train", "normal", 50), ("test", "normal", 20), ("test", "anomalous", 30))
    official, split = make_split(index, "official"), make_split(index, "budget")
    assert counts(index, split) == [(40, 10), (10, 0), (20, 20)]
    assert split.val == official.val
    assert set(split.test) | set(split.train) == set(official.test) | set(official.train)
    assert set(make_split(index, "budget", max_train_anomalies=4).train) < set(split.train)


def test_budget_takes_them_from_the_training_part_where_it_has_some():
    index = published(("train", "normal", 50), ("train", "anomalous", 24), ("test", "normal", 20), ("test", "anomalous", 30))
    split = make_split(index, "budget")
    assert counts(index, split) == [(40, 10), (10, 0), (20, 30)]
    assert counts(MTD, make_split(MTD, "budget"))[0] == (571, 10)


def test_given_back_as_a_file(tmp_path):
    split = make_split(MTD, "liac", max_train_anomalies=10, seed=5)
    write_split(split, tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split
    assert check_split(MTD, split) == split
    left_out = split.train[0]
    fewer = dataclasses.replace(MTD, samples=tuple(s for s in MTD.samples if s.id != left_out))
    assert check_split(fewer, split, [left_out]).train == split.train[1:]
    with pytest.raises(DataError, match=rf"^split: {left_out} is no labelled sample of root; a split belongs to one data set"):
        check_split(fewer, split)
    with pytest.raises(DataError, match=r"is in it 2 times; an image belongs to one part"):
        check_split(MTD, dataclasses.replace(split, val=split.val + split.train[:1]))
    with pytest.raises(DataError, match=r"^the split has train 571 normal and 10 anomalous, val 0 normal and 0 anomalous, .*"):
        check_split(MTD, dataclasses.replace(split, val=()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", r"cannot be read \(Expecting value"),
        ("[]", "holds list, needs a mapping"),
        ("[" * 100_000, "cannot be read"),
        ('{"protocol": "x", "seed": Infinity, "train": [], "val": [], "test": []}', "stored split: OverflowError"),
        ('{"protocol": "x", "seed": 0, "train": "abc", "val": [], "test": []}', "train, val and test are lists"),
    ],
)
def test_broken_split_files(tmp_path, text, message):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_split(path)
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        read_split(tmp_path / "missing.json")


def test_liac_validates_on_nothing_of_a_published_test_group():
    samples = [Sample(f"train/N/{i}", Path("x"), "normal", published_split="train", group=f"p{i % 20}") for i in range(60)]
    samples += [
        Sample(f"train/A/{i}", Path("x"), "anomalous", defect="a", published_split="train", group=f"p{i % 20}") for i in range(60)
    ]
    samples += [Sample(f"test/N/{i}", Path("x"), "normal", published_split="test", group=f"p{i}") for i in range(10)]
    samples += [
        Sample(f"test/A/{i}", Path("x"), "anomalous", defect="a", published_split="test", group=f"p{i}") for i in range(10)
    ]
    index = Dataset(Path("root"), "oct", tuple(sorted(samples, key=lambda sample: sample.id)))
    split = make_split(index, "liac")
    groups = [{sample.group for sample in samples if sample.id in part} for part in (split.train, split.val, split.test)]
    assert not groups[0] & groups[1] | groups[1] & groups[2] | groups[0] & groups[2]
    assert counts(index, split)[1:] == [(10, 10), (10, 10)]
