from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adjobs.data.index import Index, Sample, open_index
from adjobs.data.splits import PROTOCOLS, Split, make_split
from adjobs.errors import DataError, JobError


def made(normals: int, defects: dict[str, int], unlabelled: int = 0) -> Index:
    """An index without files."""
    samples = [Sample(f"good/{i:04}.png", Path("x"), "normal") for i in range(normals)]
    for defect, count in defects.items():
        samples += [Sample(f"bad/{defect}/{i:04}.png", Path("x"), "anomalous", defect=defect) for i in range(count)]
    samples += [Sample(f"new/{i:04}.png", Path("x"), "unlabelled") for i in range(unlabelled)]
    return Index(Path("root"), "folder", tuple(sorted(samples, key=lambda sample: sample.id)))


MTD = made(952, {"blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103})
ELPV = made(1508, {"p=0.33": 295, "p=0.67": 106, "p=1.00": 715})


def counts(index: Index, split: Split, defect: str | None = None) -> list[tuple[int, int]]:
    """(normal, anomalous) images in train, val and test."""
    of = {sample.id: sample for sample in index.samples}
    parts = [[of[name] for name in part] for part in (split.train, split.val, split.test)]
    return [
        (sum(s.label == "normal" for s in part), sum(s.label == "anomalous" and defect in (None, s.defect) for s in part))
        for part in parts
    ]


def assert_sound(index: Index, split: Split) -> None:
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
        a, b = make_split(MTD, protocol, k=small, seed=3), make_split(MTD, protocol, k=large, seed=3)
        assert set(a.train) < set(b.train) <= set(whole.train)
        assert counts(MTD, a)[0] == (counts(MTD, whole)[0][0], small)
        assert (a.val, a.test) == (b.val, b.test) == (whole.val, whole.test)


def test_liac_takes_k_from_each_type_in_turn():
    split = make_split(MTD, "liac", k=10)
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
    index = Index(Path("root"), "folder", tuple(samples + plenty))
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
    index = open_index(str(mvtec_root), cache=Path("unused"))
    split = make_split(index, "official")
    assert counts(index, split) == [(12, 0), (3, 0), (5, 10)]  # 15 published for training, a fifth of them validate
    assert set(split.test) == {sample.id for sample in index.samples if sample.part == "test"}
    assert make_split(index, "official", seed=1).val != split.val
    with pytest.raises(
        JobError, match=r"^k is 1; protocol official has 0 anomalous images for training; choose 0 to 0, or label more$"
    ):
        make_split(index, "official", k=1)


def published(*parts: tuple[str, str, int]) -> Index:
    samples = [Sample(f"{part}/{label}/{i}", Path("x"), label, part=part) for part, label, count in parts for i in range(count)]
    return Index(Path("root"), "mvtec", tuple(sorted(samples, key=lambda sample: sample.id)))


def test_official_with_published_validation_and_training_anomalies():
    index = published(
        ("train", "normal", 9), ("train", "anomalous", 4), ("val", "normal", 2), ("test", "normal", 1), ("test", "anomalous", 3)
    )
    split = make_split(index, "official", k=3)
    assert counts(index, split) == [(9, 3), (2, 0), (1, 3)]
    assert set(make_split(index, "official", k=2).train) < set(split.train)


def test_official_takes_at_least_one_for_validation():
    index = published(("train", "normal", 2), ("test", "normal", 1), ("test", "anomalous", 1))
    assert counts(index, make_split(index, "official")) == [(1, 0), (1, 0), (1, 1)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_depends_on_seed_and_ids_alone(protocol):
    index = published(("train", "normal", 40), ("train", "anomalous", 20), ("test", "normal", 40), ("test", "anomalous", 30))
    shuffled = list(index.samples)
    random.Random(0).shuffle(shuffled)
    moved = [dataclasses.replace(sample, image=Path("elsewhere")) for sample in shuffled]
    split = make_split(index, protocol, k=5, seed=7)
    assert make_split(dataclasses.replace(index, samples=tuple(moved)), protocol, k=5, seed=7) == split
    assert make_split(index, protocol, k=5, seed=8) != dataclasses.replace(split, seed=8)


def test_stored_as_json():
    split = make_split(MTD, "liac", k=10, seed=5)
    assert Split.from_dict(json.loads(json.dumps(split.to_dict()))) == split
    assert list(split.to_dict()) == ["protocol", "seed", "train", "val", "test"]
    with pytest.raises(DataError, match=r"^stored split: KeyError\('train'\); needed are protocol, seed, train, val and test"):
        Split.from_dict({"protocol": "liac", "seed": 0})


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("holdut", {}, r"^holdut: no such protocol; have holdout, liac, official; did you mean holdout\?$"),
        ("liac", {"k": 81}, r"^k is 81; protocol liac has 80 anomalous images for training; choose 0 to 80, or label more$"),
        ("liac", {"k": -1}, r"^k is -1; protocol liac has 80"),
        ("liac", {"seed": -1}, r"^seed is -1; allowed is 0 or more"),
    ],
)
def test_wrong_jobs(protocol, options, message):
    with pytest.raises(JobError, match=message):
        make_split(MTD, protocol, **options)


def test_data_that_does_not_suffice():
    with pytest.raises(
        DataError, match=r"^protocol official: the data set has no published parts .*; choose one of holdout, liac$"
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
