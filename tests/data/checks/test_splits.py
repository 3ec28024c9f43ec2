from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
from PIL import Image

from adjobs.data.checks import duplicates, preflight
from adjobs.data.checks.preflight import without_invalid
from adjobs.data.dataset import Dataset
from adjobs.data.problem import DataRequirements, Problem
from adjobs.data.splits.assignment import SplitAssignment, make_split
from tests.helpers.datasets import open_folder, split_by_hand
from tests.helpers.drawing import draw_folder, save, texture

UNTESTED = "no anomalous images in test"


def check_dataset(dataset: Dataset, split: SplitAssignment | None, requirements: DataRequirements | None = None) -> list[Problem]:
    """All problems but the one that most splits here have: no anomalous image in test."""
    problems = preflight.check_dataset(dataset, split, requirements=requirements)
    return [problem for problem in problems if problem.kind != UNTESTED]


def warnings_of(dataset: Dataset, split: SplitAssignment | None = None) -> list[tuple[str, str]]:
    """Sample and kind of all problems, none of which is an error."""
    problems = check_dataset(dataset, split)
    assert {problem.severity for problem in problems} <= {"warning"}
    assert without_invalid(dataset, problems) == dataset
    return [(problem.sample, problem.kind) for problem in problems]


def test_split_problems_duplicates_across_splits_are_warnings(tmp_path):
    root = draw_folder(tmp_path, 14, 0, size=160)
    normal_folder = root / "good"
    shutil.copy(normal_folder / "000.png", normal_folder / "same.png")
    shutil.copy(normal_folder / "001.png", normal_folder / "in one split.png")
    Image.open(normal_folder / "002.png").save(normal_folder / "near.jpg", quality=80)
    dataset = open_folder(root)
    assert warnings_of(dataset) == []
    split = split_by_hand(dataset, val="003 same", test="004 near")
    assert warnings_of(dataset, split) == [
        ("good/000.png", "duplicate across splits"),
        ("good/002.png", "near duplicate"),
        ("good/near.jpg", "near duplicate"),
        ("good/same.png", "duplicate across splits"),
    ]
    exact, _, near, _ = check_dataset(dataset, split)
    assert exact.message.startswith(
        "is in the train split, and the same image good/same.png is in the val split; results on it are optimistic;"
    )
    assert near.message.startswith("is in the test split, and its near duplicate good/002.png (similarity 0.")
    together = tuple(replace(s, group="one") if s.image.stem in ("002", "near") else s for s in dataset.samples)
    assert [kind for _, kind in warnings_of(replace(dataset, samples=together), split)] == [
        "duplicate across splits",
        "group across splits",
        "duplicate across splits",
    ]


def test_split_problems_near_duplicates_of_many_copies_are_all_reported(tmp_path, monkeypatch):
    compared: list[int] = []

    def count(descriptors, *args, **options):
        compared.append(len(descriptors))
        return duplicates.find_across_splits(descriptors, *args, **options)

    monkeypatch.setattr("adjobs.data.checks.splits.find_across_splits", count)
    root = draw_folder(tmp_path, 14, 0, size=160)
    for i in range(12):  # more than the nearest that are compared
        shutil.copy(root / "good" / "002.png", root / "good" / f"copy{i:02}.png")
    Image.open(root / "good" / "002.png").save(root / "good" / "near.jpg", quality=80)
    split = split_by_hand(dataset := open_folder(root), val="003", test="004 near")
    warnings = warnings_of(dataset, split)
    copies = ["002.png", *(f"copy{i:02}.png" for i in range(12)), "near.jpg"]
    assert warnings == [(f"good/{name}", "near duplicate") for name in copies]
    assert compared == [15]
    grouped = tuple(replace(s, group=f"part {s.image.stem}" if s.image.stem == "copy05" else None) for s in dataset.samples)
    warnings_of(replace(dataset, samples=grouped), split)
    assert compared == [15, 16]


def test_split_problems_group_across_splits_is_a_warning(tmp_path):
    dataset = open_folder(draw_folder(tmp_path, 14, 0))
    groups = {"000": "a", "001": "a", "002": "a", "003": "b", "004": "b", "005": "c"}
    dataset = replace(dataset, samples=tuple(replace(s, group=groups.get(s.image.stem)) for s in dataset.samples))
    (problem,) = check_dataset(dataset, split_by_hand(dataset, val="002 006", test="003 004 007"))
    assert (problem.sample, problem.kind, problem.severity) == ("good/002.png", "group across splits", "warning")
    assert problem.message.startswith("its group a is in several splits: train 2, val 1;")


def test_split_problems_missing_labels_are_errors(folder_root):
    dataset = open_folder(folder_root)
    normal = split_by_hand(dataset, val="015 016", test="017 018")
    normal = replace(normal, train=tuple(name for name in normal.train if name.startswith("good/")))

    def first_clauses(split: SplitAssignment | None, **requirements: int) -> dict[str, str]:
        problems = check_dataset(dataset, split, requirements=DataRequirements(**requirements))
        assert all(problem.severity == "error" and not problem.sample for problem in problems)
        return {problem.kind: problem.message.partition(";")[0] for problem in problems}

    assert (
        first_clauses(make_split(dataset, "holdout"), needs_train_anomalies=True, needs_val_anomalies=True, min_val_normals=4)
        == {}
    )
    assert first_clauses(normal) == {}
    assert first_clauses(normal, needs_train_anomalies=True, needs_val_anomalies=True, min_val_normals=3) == {
        "few anomalous images in train": "the train split has no anomalous images",
        "few anomalous images in val": "the val split has no anomalous images",
        "few normal images in val": "the val split has 2 normal images",
    }
    assert first_clauses(None, min_normal_images=21, needs_train_anomalies=True) == {
        "few normal images": "20 usable normal images (of 20)"
    }


def test_split_problems_no_checkpoint_selection_is_a_warning(folder_root):
    dataset = open_folder(folder_root)
    split = split_by_hand(dataset, val="015 016", test="017 018")
    assert (
        check_dataset(dataset, split)
        == check_dataset(dataset, make_split(dataset, "holdout"), requirements=DataRequirements(selects_on_val=True))
        == []
    )
    (problem,) = check_dataset(dataset, split, requirements=DataRequirements(selects_on_val=True))
    assert (problem.kind, problem.severity) == ("no checkpoint selection", "warning")


def test_split_problems_test_without_anomalous_images_is_a_warning(folder_root):
    dataset = open_folder(folder_root)
    (problem,) = preflight.check_dataset(dataset, split_by_hand(dataset, val="015", test="017 018"))
    assert (problem.sample, problem.kind, problem.severity) == ("", UNTESTED, "warning")
    assert problem.message.startswith("the test split has no anomalous images, so the test measures false alarms only: ")


def test_split_problems_missing_masks_are_a_warning_of_each_evaluated_split(tmp_path):
    root = draw_folder(tmp_path, 14, 6)
    for number in range(2):
        save(root / "bad" / "dent" / f"d{number}.png", texture(64, np.random.default_rng(100 + number)))
        for folder in ("bad", "masks"):
            (root / folder / "scratch" / f"00{number}.png").rename(root / folder / "scratch" / f"s{number}.png")
    dataset = open_folder(root)
    split = split_by_hand(dataset, val="d0", test="d1 s0 s1")
    problems = [problem for problem in check_dataset(dataset, split) if problem.kind == "missing masks"]
    val, test = problems
    assert val.message.startswith(
        "1 of 1 anomalous images of the val split have no mask (dent 1 of 1), so masks choose no pixel threshold; draw"
    )
    assert test.message == (
        "1 of 3 anomalous images of the test split have no mask (dent 1 of 1), so pixel metrics of all images are undefined, and "
        "only the other defect types have pixel metrics; draw the missing masks, or ignore this warning"
    )
    assert {problem.severity for problem in problems} == {"warning"}


def test_split_problems_no_masks_at_all_are_no_warning(tmp_path):
    root = draw_folder(tmp_path, 14, 6)
    shutil.rmtree(root / "masks")
    dataset = open_folder(root)
    assert "missing masks" not in [problem.kind for problem in check_dataset(dataset, make_split(dataset, "holdout"))]


def test_split_problems_advice_about_groups_fits_the_data(tmp_path):
    root = draw_folder(tmp_path, 14, 0, size=160)
    shutil.copy(root / "good" / "000.png", root / "good" / "same.png")
    dataset = open_folder(root)
    split = split_by_hand(dataset, val="same")
    (message, *_) = [problem.message for problem in check_dataset(dataset, split)]
    assert message.endswith(
        "keep one of the two, or copy the data with 'adjobs data import' and give both the same group in its manifest"
    )
    grouped = replace(dataset, samples=tuple(replace(sample, group=sample.id) for sample in dataset.samples))
    (message, *_) = [problem.message for problem in check_dataset(grouped, split)]
    assert message.endswith("keep one of the two, or give both the same group")
