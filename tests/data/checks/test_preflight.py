from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from adjobs.data.checks.preflight import check_dataset, without_invalid
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.problem import Problem
from adjobs.data.splits.assignment import SplitAssignment, make_split
from adjobs.errors import JobError
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_folder, save, texture
from tests.helpers.images import write_huge_png


def test_check_dataset_valid_data_has_no_problems(folder_root, mvtec_root):
    for root, protocol in ((folder_root, "holdout"), (mvtec_root, "official")):
        dataset = open_folder(root)
        assert check_dataset(dataset) == []
        assert check_dataset(dataset, make_split(dataset, protocol)) == []
        assert without_invalid(dataset, []) == dataset


def test_check_dataset_several_problems_are_all_listed(folder_root):
    normal_folder, anomalous_folder, masks = (
        folder_root / "good",
        folder_root / "bad" / "scratch",
        folder_root / "masks" / "scratch",
    )
    (normal_folder / "000.png").write_bytes(b"not an image")
    (normal_folder / "001.png").write_bytes((normal_folder / "001.png").read_bytes()[:2000])
    write_huge_png(normal_folder / "002.png", 14_000)
    (masks / "000.png").write_bytes(b"not an image")
    save(masks / "001.png", np.eye(32, dtype=bool))
    save(masks / "002.png", np.zeros((64, 64), dtype=bool))
    shutil.copy(normal_folder / "003.png", anomalous_folder / "003.png")
    shutil.copy(normal_folder / "004.png", normal_folder / "same label.png")
    dataset = open_folder(folder_root)
    problems = check_dataset(dataset)
    assert [(problem.sample, problem.kind) for problem in problems] == [
        ("bad/scratch/000.png", "mask unreadable"),
        ("bad/scratch/001.png", "mask size"),
        ("bad/scratch/002.png", "mask empty"),
        ("bad/scratch/003.png", "conflicting labels"),
        ("good/000.png", "unreadable"),
        ("good/001.png", "truncated"),
        ("good/002.png", "too large"),
        ("good/003.png", "conflicting labels"),
    ]
    assert [problem.message for problem in problems] == [
        "mask 000.png is not a supported image; allowed are PNG, JPEG, BMP, TIFF and WebP; export it again or remove it",
        "mask 001.png is 32 x 32 pixels, but its image is 64 x 64; export the mask at the image's size",
        "mask 002.png has no defect pixel on an anomalous image; draw the defect, or remove the mask if its position is unknown",
        "is anomalous, but the same image good/003.png is normal; an image has one label; fix or remove one of the two",
        "is not a supported image; allowed are PNG, JPEG, BMP, TIFF and WebP; export it again or remove it",
        "cannot be decoded (image file is truncated); export it again or remove it",
        "has more than 178,956,970 pixels, the maximum; scale it down or crop it",
        "is normal, but the same image bad/scratch/003.png is anomalous; an image has one label; fix or remove one of the two",
    ]
    valid = without_invalid(dataset, problems)
    assert len(valid.samples) == len(dataset.samples) - 8
    assert check_dataset(valid) == []


def test_check_dataset_defect_pixels_on_normal_image_are_an_error(tmp_path):
    for i in range(11):
        save(tmp_path / "MT_Free" / "Imgs" / f"{i}.jpg", texture(32, np.random.default_rng(i)))
        save(tmp_path / "MT_Free" / "Imgs" / f"{i}.png", np.full((32, 32), i == 3))
    reason = "mask 3.png has 1024 defect pixels on a normal image, which has no defects; fix the label or the mask"
    assert check_dataset(open_folder(tmp_path)) == [Problem("MT_Free/Imgs/3.jpg", "mask not empty", reason)]


def test_check_dataset_copy_in_published_splits_is_an_error(mvtec_root):
    shutil.copy(mvtec_root / "test" / "good" / "015.png", mvtec_root / "train" / "good" / "copy.png")
    reason = (
        "is in the train split, and the same image test/good/015.png is in the test split; "
        "an image belongs to one split; remove one of the two"
    )
    assert check_dataset(open_folder(mvtec_root)) == [Problem("train/good/copy.png", "duplicate in published splits", reason)]


def test_check_dataset_missing_image_is_an_error(folder_root):
    dataset = open_folder(folder_root)
    (folder_root / "good" / "007.png").unlink()
    (problem,) = check_dataset(dataset)
    assert (problem.sample, problem.kind) == ("good/007.png", "unreadable")
    assert "cannot be read (No such file or directory)" in problem.message


def test_check_dataset_few_normal_images_are_an_error(tmp_path):
    root = draw_folder(tmp_path, 9, 1)
    dataset = open_folder(root)
    need = "at least 10 required; add normal images or fix those above"
    assert check_dataset(dataset) == [Problem("", "few normal images", f"9 usable normal images (of 9); {need}")]
    for path in (root / "good").iterdir():
        path.write_bytes(b"")
    problems = check_dataset(dataset)
    assert problems[-1] == Problem("", "no normal images", f"no usable normal images (of 9); {need}")
    assert [problem.kind for problem in problems[:-1]] == ["unreadable"] * 9


def test_check_dataset_unlabelled_images_are_a_warning(tmp_path):
    dataset = open_folder(draw_folder(tmp_path, 12, 0))
    samples = [replace(sample, label="unlabelled") for sample in dataset.samples[:2]]
    (problem,) = check_dataset(replace(dataset, samples=(*samples, *dataset.samples[2:])))
    assert (problem.sample, problem.kind, problem.severity) == ("", "unlabelled", "warning")
    assert problem.message.startswith("2 of 12 images are unlabelled;")


def test_check_dataset_split_function_gets_valid_samples(folder_root):
    (folder_root / "good" / "000.png").write_bytes(b"")
    dataset, checked = open_folder(folder_root), []

    def split(valid: Dataset) -> SplitAssignment:
        checked.append([sample.id for sample in valid.samples])
        return make_split(valid, "holdout")

    (problem,) = check_dataset(dataset, split)
    assert (problem.sample, problem.kind) == ("good/000.png", "unreadable")
    assert checked[-1] == [sample.id for sample in dataset.samples[:10]] + [f"good/{i:03}.png" for i in range(1, 20)]


def test_check_dataset_impossible_split_is_an_error(tmp_path):
    problems = check_dataset(open_folder(draw_folder(tmp_path, 12, 1)), lambda valid: make_split(valid, "holdout"))
    assert [(p.sample, p.kind, p.severity) for p in problems] == [("", "split", "error")]


def test_check_dataset_invalid_split_settings_are_raised_before_reading(folder_root, monkeypatch):
    monkeypatch.setattr("adjobs.data.checks.preflight.in_threads", None)
    with pytest.raises(JobError, match="max_train_anomalies is 99"):
        check_dataset(open_folder(folder_root), lambda valid: make_split(valid, "holdout", max_train_anomalies=99))


def test_without_invalid_only_errors_exclude_samples(tmp_path):
    root = draw_folder(tmp_path, 14, 0)
    (root / "good" / "009.png").write_bytes(b"")
    save(root / "good" / "001.png", np.zeros((64, 64), np.uint8))
    dataset = open_folder(root)
    dataset = replace(dataset, samples=(Sample("a", dataset.samples[0].image, "unlabelled"), *dataset.samples[1:]))
    problems = check_dataset(dataset)
    assert [(p.sample, p.kind) for p in problems] == [
        ("good/009.png", "unreadable"),
        ("good/001.png", "one colour"),
        ("", "unlabelled"),
    ]
    assert {sample.id for sample in dataset.samples} - {sample.id for sample in without_invalid(dataset, problems).samples} == {
        "good/009.png"
    }
