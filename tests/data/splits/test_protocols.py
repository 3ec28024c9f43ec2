from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adjobs.config.job import DataSection
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.open import open_dataset
from adjobs.data.reading import DatasetVersion
from adjobs.data.splits.assignment import make_split
from adjobs.data.splits.protocols import PROTOCOLS, default_protocol
from adjobs.errors import JobError
from tests.helpers.datasets import assert_valid_split, count_labels, make_dataset

MTD = make_dataset(952, {"blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103})


ELPV = make_dataset(1508, {"p=0.33": 295, "p=0.67": 106, "p=1.00": 715})


def published_dataset(*splits: tuple[str, str, int]) -> Dataset:
    samples = [
        Sample(f"{split}/{label}/{i}", Path("x"), label, published_split=split)
        for split, label, count in splits
        for i in range(count)
    ]
    return Dataset(Path("root"), "mvtec", tuple(sorted(samples, key=lambda sample: sample.id)))


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [(MTD, [(571, 80), (190, 154), (191, 158)]), (ELPV, [(904, 80), (301, 517), (303, 519)])],
    ids=["mtd", "elpv"],
)
def test_liac_published_data_sets_have_published_sizes(dataset, expected):
    for seed in range(3):
        split = make_split(dataset, "liac", seed=seed)
        assert count_labels(dataset, split) == expected
        assert_valid_split(dataset, split)


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ([("train", "normal", 10), ("val", "anomalous", 5)], "holdout"),
        ([("train", "normal", 10), ("test", "unlabelled", 5)], "holdout"),
        ([("train", "normal", 10), ("test", "normal", 5)], "official"),
    ],
)
def test_default_protocol_is_official_with_a_published_test_split(splits, expected):
    assert default_protocol(published_dataset(*splits)) == expected


def test_default_protocol_version_of_a_data_set_keeps_its_splits():
    version = DatasetVersion(1, "0" * 64)
    dataset = dataclasses.replace(published_dataset(("train", "normal", 10), ("val", "anomalous", 5)), version=version)
    assert default_protocol(dataset) == "official"


def test_default_protocol_without_published_splits_is_that_of_a_job():
    assert default_protocol(MTD) == DataSection(uri="x").protocol


@pytest.mark.parametrize("protocol", ["liac", "holdout"])
def test_max_train_anomalies_smaller_is_subset_of_larger(protocol):
    unlimited = make_split(MTD, protocol, seed=3)
    for small, large in [(0, 10), (10, 20), (20, 40), (40, 73)]:
        a, b = (
            make_split(MTD, protocol, max_train_anomalies=small, seed=3),
            make_split(MTD, protocol, max_train_anomalies=large, seed=3),
        )
        assert set(a.train) < set(b.train) <= set(unlimited.train)
        assert count_labels(MTD, a)[0] == (count_labels(MTD, unlimited)[0][0], small)
        assert (a.val, a.test) == (b.val, b.test) == (unlimited.val, unlimited.test)


def test_liac_limited_anomalies_have_all_types():
    split = make_split(MTD, "liac", max_train_anomalies=10)
    assert [count_labels(MTD, split, defect)[0][1] for defect in ("blowhole", "break", "crack", "fray", "uneven")] == [2] * 5


def test_liac_few_anomalies_reserve_at_most_half():
    dataset = make_dataset(10, {"a": 7, "b": 1})
    assert count_labels(dataset, make_split(dataset, "liac")) == [(6, 3), (2, 2), (2, 3)]


def test_liac_published_test_split_is_kept_and_val_has_same_sizes():
    cases = ("CNV", "DME", "DRUSEN")
    samples = [Sample(f"test/N/{i}", Path("x"), "normal", published_split="test") for i in range(24)]
    samples += [Sample(f"train/N/{i}", Path("x"), "normal", published_split="train", group=f"p{i // 3}") for i in range(3000)]
    for kind in cases:
        samples += [Sample(f"test/{kind}/{i}", Path("x"), "anomalous", defect=kind, published_split="test") for i in range(24)]
        samples += [Sample(f"train/{kind}/{i}", Path("x"), "anomalous", defect=kind, published_split="train") for i in range(100)]
    dataset = Dataset(Path("root"), "oct", tuple(sorted(samples, key=lambda sample: sample.id)))
    split = make_split(dataset, "liac", max_train_anomalies=40)
    assert count_labels(dataset, split) == [(2000, 40), (24, 72), (24, 72)]
    assert set(split.test) == {sample.id for sample in samples if sample.published_split == "test"}
    assert [anomalous for kind in cases for _, anomalous in count_labels(dataset, split, kind)[:1]] == [14, 13, 13]
    groups = {sample.id: sample.group for sample in samples}
    assert not {groups[i] for i in split.train} & {groups[i] for i in split.val} - {None}
    assert_valid_split(dataset, split)


def test_liac_published_test_groups_are_in_no_other_split():
    samples = [Sample(f"train/N/{i}", Path("x"), "normal", published_split="train", group=f"p{i % 20}") for i in range(60)]
    samples += [
        Sample(f"train/A/{i}", Path("x"), "anomalous", defect="a", published_split="train", group=f"p{i % 20}") for i in range(60)
    ]
    samples += [Sample(f"test/N/{i}", Path("x"), "normal", published_split="test", group=f"p{i}") for i in range(10)]
    samples += [
        Sample(f"test/A/{i}", Path("x"), "anomalous", defect="a", published_split="test", group=f"p{i}") for i in range(10)
    ]
    dataset = Dataset(Path("root"), "oct", tuple(sorted(samples, key=lambda sample: sample.id)))
    split = make_split(dataset, "liac")
    groups = [{sample.group for sample in samples if sample.id in ids} for ids in (split.train, split.val, split.test)]
    assert not groups[0] & groups[1] | groups[1] & groups[2] | groups[0] & groups[2]
    assert count_labels(dataset, split)[1:] == [(10, 10), (10, 10)]


def test_holdout_each_defect_type_has_its_share():
    dataset = make_dataset(100, {"a": 50, "b": 20, "c": 5}, n_unlabelled=7)
    split = make_split(dataset, "holdout")
    assert count_labels(dataset, split) == [(60, 15), (20, 30), (20, 30)]
    for defect, expected in {"a": [10, 20, 20], "b": [4, 8, 8], "c": [1, 2, 2]}.items():
        assert [anomalous for _, anomalous in count_labels(dataset, split, defect)] == expected
    assert_valid_split(dataset, split)


def test_holdout_types_with_one_image_are_spread():
    dataset = make_dataset(10, dict.fromkeys("abcdefghij", 1))
    assert [anomalous for _, anomalous in count_labels(dataset, make_split(dataset, "holdout"))] == [2, 4, 4]


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from([None, *"pqrstuvw"])), max_size=60), st.integers(0, 9))
def test_holdout_groups_are_never_split(cases, seed):
    samples = [
        Sample(f"{i:03}", Path("x"), "anomalous" if defect else "normal", defect=defect, group=group)
        for i, (defect, group) in enumerate(cases)
    ]
    plenty = [Sample(f"good/{i}", Path("x"), "normal") for i in range(30)] + [
        Sample(f"bad/{i}", Path("x"), "anomalous", defect="c") for i in range(30)
    ]
    dataset = Dataset(Path("root"), "folder", tuple(samples + plenty))
    split = make_split(dataset, "holdout", seed=seed)
    assert_valid_split(dataset, split)
    split_of = {name: split_name for split_name in ("train", "val", "test") for name in getattr(split, split_name)}
    assert len(split_of) == len(dataset.samples)
    groups: dict[str, set[str]] = {}
    for sample in samples:
        if sample.group:
            groups.setdefault(sample.group, set()).add(split_of[sample.id])
    assert all(len(names) == 1 for names in groups.values())


def test_holdout_groups_keep_the_shares():
    dataset = make_dataset(600, {"a": 300})
    tiles = tuple(dataclasses.replace(sample, group=f"{sample.label}{int(sample.id[-8:-4]) // 6}") for sample in dataset.samples)
    dataset = dataclasses.replace(dataset, samples=tiles)
    assert count_labels(dataset, make_split(dataset, "holdout")) == [(360, 60), (120, 120), (120, 120)]


def test_official_published_test_split_is_kept(mvtec_root):
    dataset = open_dataset(str(mvtec_root), cache=Path("unused"))
    split = make_split(dataset, "official")
    assert count_labels(dataset, split) == [(12, 0), (3, 0), (5, 10)]  # 15 published for training, a fifth of them validate
    assert set(split.test) == {sample.id for sample in dataset.samples if sample.published_split == "test"}
    assert make_split(dataset, "official", seed=1).val != split.val
    with pytest.raises(
        JobError,
        match=r"^max_train_anomalies is 1; protocol official has 0 anomalous images for training; choose 0 to 0, or label more$",
    ):
        make_split(dataset, "official", max_train_anomalies=1)


def test_official_published_val_split_is_kept():
    dataset = published_dataset(
        ("train", "normal", 9), ("train", "anomalous", 4), ("val", "normal", 2), ("test", "normal", 1), ("test", "anomalous", 3)
    )
    split = make_split(dataset, "official", max_train_anomalies=3)
    assert count_labels(dataset, split) == [(9, 3), (2, 0), (1, 3)]
    assert set(make_split(dataset, "official", max_train_anomalies=2).train) < set(split.train)


def test_official_two_training_images_give_one_to_val():
    dataset = published_dataset(("train", "normal", 2), ("test", "normal", 1), ("test", "anomalous", 1))
    assert count_labels(dataset, make_split(dataset, "official")) == [(1, 0), (1, 0), (1, 1)]


def test_dpae_published_data_sets_have_published_sizes():
    tiles = dataclasses.replace(MTD, format="mtd")
    for seed in range(2):
        assert count_labels(tiles, make_split(tiles, "dpae", seed=seed)) == [(330, 0), (142, 0), (142, 392)]
    carpet = published_dataset(("train", "normal", 280), ("test", "normal", 28), ("test", "anomalous", 89))
    assert count_labels(carpet, make_split(carpet, "dpae")) == [(224, 0), (56, 0), (28, 89)]
    rails = make_dataset(900, {"a": 450})
    assert count_labels(rails, make_split(rails, "dpae")) == [(500, 0), (150, 0), (150, 450)]  # RSD: 500/150+450
    few = make_dataset(10, {"a": 50})
    assert_valid_split(few, make_split(few, "dpae"))
    assert count_labels(few, make_split(few, "dpae")) == [(6, 0), (2, 0), (2, 50)]


def test_budget_without_train_anomalies_takes_ten_from_test():
    dataset = published_dataset(("train", "normal", 50), ("test", "normal", 20), ("test", "anomalous", 30))
    official, split = make_split(dataset, "official"), make_split(dataset, "budget")
    assert count_labels(dataset, split) == [(40, 10), (10, 0), (20, 20)]
    assert split.val == official.val
    assert set(split.test) | set(split.train) == set(official.test) | set(official.train)
    assert set(make_split(dataset, "budget", max_train_anomalies=4).train) < set(split.train)


def test_budget_with_train_anomalies_takes_ten_of_them():
    dataset = published_dataset(
        ("train", "normal", 50), ("train", "anomalous", 24), ("test", "normal", 20), ("test", "anomalous", 30)
    )
    split = make_split(dataset, "budget")
    assert count_labels(dataset, split) == [(40, 10), (10, 0), (20, 30)]
    assert count_labels(MTD, make_split(MTD, "budget"))[0] == (571, 10)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_protocol_order_of_files_does_not_matter(protocol):
    dataset = published_dataset(
        ("train", "normal", 40), ("train", "anomalous", 20), ("test", "normal", 40), ("test", "anomalous", 30)
    )
    shuffled = list(dataset.samples)
    random.Random(0).shuffle(shuffled)
    moved = [dataclasses.replace(sample, image=Path("elsewhere")) for sample in shuffled]
    max_train_anomalies = 0 if protocol == "dpae" else 5  # it learns from normal images alone
    split = make_split(dataset, protocol, max_train_anomalies=max_train_anomalies, seed=7)
    assert (
        make_split(dataclasses.replace(dataset, samples=tuple(moved)), protocol, max_train_anomalies=max_train_anomalies, seed=7)
        == split
    )
    assert make_split(dataset, protocol, max_train_anomalies=max_train_anomalies, seed=8) != dataclasses.replace(split, seed=8)
