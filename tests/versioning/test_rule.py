from __future__ import annotations

from collections import Counter

import pytest

from adjobs.data.versions.record import Shares, SplitRule
from adjobs.versioning.rule import Stratum, Unit, assign_splits

NORMAL, SCRATCH, DENT = Stratum("normal"), Stratum("anomalous", "scratch"), Stratum("anomalous", "dent")


def singles(stratum: Stratum, count: int, prefix: str = "") -> list[Unit]:
    return [Unit(f"{prefix}{stratum.defect or 'normal'} {i}", {stratum: 1}) for i in range(count)]


def sizes(splits: dict[str, str]) -> Counter[str]:
    return Counter(splits.values())


@pytest.mark.parametrize(("count", "expected"), [(5, (3, 1, 1)), (10, (6, 2, 2)), (100, (60, 20, 20))])
def test_assign_splits_normal_images_get_their_shares(count, expected):
    splits = sizes(assign_splits(singles(NORMAL, count), {}, SplitRule()))
    assert (splits["train"], splits["val"], splits["test"]) == expected


def test_assign_splits_each_defect_type_gets_its_shares():
    splits = assign_splits([*singles(SCRATCH, 10), *singles(DENT, 4)], {}, SplitRule())
    assert sizes({key: split for key, split in splits.items() if "scratch" in key}) == {"train": 5, "test": 5}
    assert sizes({key: split for key, split in splits.items() if "dent" in key}) == {"train": 2, "test": 2}


def test_assign_splits_first_anomaly_is_tested():
    assert assign_splits(singles(SCRATCH, 1), {}, SplitRule()) == {"scratch 0": "test"}


def test_assign_splits_many_types_with_one_image_each_are_balanced():
    units = [Unit(name, {Stratum("anomalous", name): 1}) for name in "abcdefgh"]
    assert sizes(assign_splits(units, {}, SplitRule())) == {"train": 4, "test": 4}


def test_assign_splits_one_by_one_is_as_balanced_as_at_once():
    counts: Counter[tuple[str, Stratum]] = Counter()
    for unit in singles(NORMAL, 100):
        counts[assign_splits([unit], counts, SplitRule())[unit.key], NORMAL] += 1
    assert [counts[split, NORMAL] for split in ("train", "val", "test")] == [60, 20, 20]


def test_assign_splits_counts_of_earlier_additions_are_evened_out():
    splits = assign_splits(singles(SCRATCH, 4), {("train", SCRATCH): 4}, SplitRule())
    assert sizes(splits) == {"test": 4}


def test_assign_splits_order_of_units_does_not_matter():
    units = [*singles(NORMAL, 20), *singles(SCRATCH, 20)]
    assert assign_splits(units, {}, SplitRule()) == assign_splits(units[::-1], {}, SplitRule())


def test_assign_splits_other_seed_gives_other_splits():
    units = singles(NORMAL, 50)
    assert assign_splits(units, {}, SplitRule()) != assign_splits(units, {}, SplitRule(seed=1))


def test_assign_splits_group_is_assigned_by_its_commonest_defect():
    board = Unit("board", {NORMAL: 5, SCRATCH: 1, DENT: 2})
    assert board.stratum == DENT
    counts = {("train", DENT): 0, ("test", DENT): 4, ("train", SCRATCH): 9}
    assert assign_splits([board], counts, SplitRule()) == {"board": "train"}


def test_assign_splits_large_groups_are_counted_by_image():
    units = [Unit("large", {NORMAL: 60}), *singles(NORMAL, 40)]
    splits = assign_splits(units, {}, SplitRule(normal=Shares(0.6, 0.2, 0.2)))
    images: Counter[str] = Counter()
    for unit in units:
        images[splits[unit.key]] += unit.images[NORMAL]
    assert images.pop(splits["large"]) < 90
    assert min(images.values()) == max(images.values()) > 5


def test_assign_splits_split_without_share_gets_nothing():
    splits = assign_splits(singles(NORMAL, 9), {}, SplitRule(normal=Shares(0.0, 0.5, 0.5)))
    assert set(splits.values()) == {"val", "test"}


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (1.5, -0.5, 0), (float("nan"), 0.5, 0.5), (0, 0, 0)])
def test_find_fault_shares_that_do_not_add_up_are_refused(shares):
    assert "add up to 1" in str(Shares(*shares).find_fault())


def test_find_fault_thirds_are_allowed():
    assert Shares(1 / 3, 1 / 3, 1 / 3).find_fault() is None
