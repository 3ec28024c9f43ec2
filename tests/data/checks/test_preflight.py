from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adjobs.data.checks.preflight import check_dataset, without_invalid
from adjobs.data.checks.problem import DataRequirements, Problem
from adjobs.data.dataset import Dataset, Sample
from adjobs.data.open import open_dataset
from adjobs.data.splits.assignment import SplitAssignment, make_split
from adjobs.errors import JobError
from tests.data.test_images import write_huge_png
from tests.helpers.drawing import draw_folder, save, texture


def opened(root: Path) -> Dataset:
    return open_dataset(str(root), cache=Path("unused"))


def test_nothing_wrong(folder_root, mvtec_root):
    for root, protocol in ((folder_root, "holdout"), (mvtec_root, "official")):
        index = opened(root)
        assert check_dataset(index) == []
        assert check_dataset(index, make_split(index, protocol)) == []
        assert without_invalid(index, []) == index


def test_all_problems_at_once(folder_root):
    good, bad, masks = folder_root / "good", folder_root / "bad" / "scratch", folder_root / "masks" / "scratch"
    (good / "000.png").write_bytes(b"no image")
    (good / "001.png").write_bytes((good / "001.png").read_bytes()[:2000])
    write_huge_png(good / "002.png", 14_000)
    (masks / "000.png").write_bytes(b"no image")
    save(masks / "001.png", np.eye(32, dtype=bool))
    save(masks / "002.png", np.zeros((64, 64), dtype=bool))
    shutil.copy(good / "003.png", bad / "003.png")
    shutil.copy(good / "004.png", good / "same label.png")
    index = opened(folder_root)
    problems = check_dataset(index)
    assert [(problem.sample, problem.kind) for problem in problems] == [
        ("bad/scratch/000.png", "mask unreadable"),
        ("bad/scratch/001.png", "mask size"),
        ("bad/scratch/002.png", "mask empty"),
        ("bad/scratch/003.png", "duplicate label"),
        ("good/000.png", "unreadable"),
        ("good/001.png", "truncated"),
        ("good/002.png", "too large"),
        ("good/003.png", "duplicate label"),
    ]
    assert [problem.message for problem in problems] == [
        "mask 000.png is no image; allowed are PNG, JPEG, BMP, TIFF and WebP; export it again or remove it",
        "mask 001.png is 32 x 32 pixels, its image 64 x 64; both must be equal; export the mask at the image's size",
        "mask 002.png marks no pixel on an anomalous image; draw the defect, or remove the mask if its place is unknown",
        "is anomalous, and the same image good/003.png is normal; an image has one label; correct or remove one of the two",
        "is no image; allowed are PNG, JPEG, BMP, TIFF and WebP; export it again or remove it",
        "cannot be decoded (image file is truncated); a whole image is needed; export it again or remove it",
        "has more than 178,956,970 pixels, the most allowed; scale it down or cut it into parts",
        "is normal, and the same image bad/scratch/003.png is anomalous; "
        "an image has one label; correct or remove one of the two",
    ]
    rest = without_invalid(index, problems)
    assert len(rest.samples) == len(index.samples) - 8
    assert check_dataset(rest) == []


def test_mask_with_pixels_on_a_normal_image(tmp_path):
    for i in range(11):
        save(tmp_path / "MT_Free" / "Imgs" / f"{i}.jpg", texture(32, np.random.default_rng(i)))
        save(tmp_path / "MT_Free" / "Imgs" / f"{i}.png", np.full((32, 32), i == 3))
    reason = "mask 3.png marks 1024 pixels on a normal image, which has no defects; correct the label or the mask"
    assert check_dataset(opened(tmp_path)) == [Problem("MT_Free/Imgs/3.jpg", "mask not empty", reason)]


def test_the_same_image_in_two_published_parts(mvtec_root):
    shutil.copy(mvtec_root / "test" / "good" / "015.png", mvtec_root / "train" / "good" / "copy.png")
    reason = (
        "is in part train, and the same image test/good/015.png in part test; an image belongs to one part; remove one of the two"
    )
    assert check_dataset(opened(mvtec_root)) == [Problem("train/good/copy.png", "duplicate part", reason)]


def test_an_image_that_vanished(folder_root):
    index = opened(folder_root)
    (folder_root / "good" / "007.png").unlink()
    (problem,) = check_dataset(index)
    assert (problem.sample, problem.kind) == ("good/007.png", "unreadable")
    assert "cannot be read (No such file or directory)" in problem.message


def test_few_and_no_normals(tmp_path):
    root = draw_folder(tmp_path, 9, 1)
    index = opened(root)
    need = "at least 10 are needed; add good images or mend those above"
    assert check_dataset(index) == [Problem("", "few normals", f"9 usable normal images (of 9); {need}")]
    for path in (root / "good").iterdir():
        path.write_bytes(b"")
    problems = check_dataset(index)
    assert problems[-1] == Problem("", "no normals", f"no usable normal images (of 9); {need}")
    assert [problem.kind for problem in problems[:-1]] == ["unreadable"] * 9


# Images unlike the others


def warned(index: Dataset, split: SplitAssignment | None = None) -> list[tuple[str, str]]:
    """Sample and kind of all problems, none of which is an error."""
    problems = check_dataset(index, split)
    assert {problem.severity for problem in problems} <= {"warning"}
    assert without_invalid(index, problems) == index
    return [(problem.sample, problem.kind) for problem in problems]


def test_images_of_another_size_or_shape(tmp_path):
    root = draw_folder(tmp_path, 20, 0)
    rng = np.random.default_rng(1)
    for name, height, width in [("tall", 64, 40), ("large", 100, 100), ("near", 64, 72), ("a bit larger", 80, 80)]:
        save(root / "good" / f"{name}.png", texture(120, rng)[:height, :width])
    assert warned(opened(root)) == [("good/large.png", "size"), ("good/tall.png", "size")]
    (large, tall) = check_dataset(opened(root))
    assert large.message.startswith("is 100 x 100 pixels, the middle of all is 64 x 64;")
    assert tall.message.startswith("is 40 x 64 pixels, the middle of all is 64 x 64;")


def test_a_data_set_of_many_sizes_has_no_strange_ones(tmp_path):
    rng = np.random.default_rng(1)
    for i in range(20):
        height, width = rng.integers(60, 180, 2)
        save(tmp_path / "good" / f"{i:02}.png", texture(180, rng)[:height, :width])
    assert warned(opened(tmp_path)) == []


@pytest.mark.parametrize(("odd", "word"), [("good/007.png", "in colour"), ("good/003.png", "grey")])
def test_mixed_modes(tmp_path, odd, word):
    index = opened(draw_folder(tmp_path, 12, 0))
    tint = np.array([0, 40, -40])
    for sample in index.samples:
        pixels = texture(64, np.random.default_rng(int(sample.image.stem)))
        if (sample.id == odd) == (word == "in colour"):
            pixels = (pixels + tint).clip(0, 255).astype(np.uint8)
        save(sample.image, pixels if sample.id != odd or word == "in colour" else pixels[..., 0])
    (problem,) = check_dataset(index)
    assert (problem.sample, problem.kind, problem.severity) == (odd, "mode", "warning")
    other = {"in colour": "grey", "grey": "in colour"}[word]
    assert problem.message.startswith(f"is {word}, 11 other images are {other};")


def test_a_slight_tint_is_neither_grey_nor_colour(tmp_path):
    index = opened(draw_folder(tmp_path, 12, 0))
    save(index.samples[0].image, texture(64, np.random.default_rng(0)) + np.array([0, 6, 0], np.uint8))
    save(index.samples[1].image, texture(64, np.random.default_rng(1))[..., 0])
    assert warned(index) == []


def test_tiny_and_empty_images(tmp_path):
    root = draw_folder(tmp_path, 12, 0, size=31)
    assert warned(opened(root)) == [(f"good/{i:03}.png", "tiny") for i in range(12)]
    root = draw_folder(tmp_path, 12, 0, size=32)
    save(root / "good" / "black.png", np.zeros((32, 32), np.uint8))
    almost = np.random.default_rng(0).integers(100, 105, (32, 32, 3), dtype=np.uint8)
    save(root / "good" / "even.png", almost)
    almost[3, 3, 1] = 105
    save(root / "good" / "not quite.png", almost)
    problems = check_dataset(opened(root))
    assert [(p.sample, p.kind, p.severity) for p in problems] == [
        ("good/black.png", "one colour", "warning"),
        ("good/even.png", "one colour", "warning"),
    ]
    assert problems[0].message.startswith("is of one colour (0);")
    assert problems[1].message.startswith("is of one colour (100, 100, 100);")


def test_unlabelled_images_are_counted(tmp_path):
    index = opened(draw_folder(tmp_path, 12, 0))
    samples = [replace(sample, label="unlabelled") for sample in index.samples[:2]]
    (problem,) = check_dataset(replace(index, samples=(*samples, *index.samples[2:])))
    assert (problem.sample, problem.kind, problem.severity) == ("", "unlabelled", "warning")
    assert problem.message.startswith("2 of 12 images are unlabelled;")


# What a split does


def parted(index: Dataset, **parts: str) -> SplitAssignment:
    """All samples train, but those of these parts by name without folder and suffix."""
    names = {sample.image.stem: sample.id for sample in index.samples}
    given = {part: tuple(names[stem] for stem in text.split()) for part, text in parts.items()}
    rest = tuple(sorted(set(names.values()) - {name for part in given.values() for name in part}))
    return SplitAssignment("by hand", 0, train=rest, val=given.get("val", ()), test=given.get("test", ()))


def test_copies_in_two_parts_of_the_split(tmp_path):
    root = draw_folder(tmp_path, 14, 0, size=160)
    good = root / "good"
    shutil.copy(good / "000.png", good / "same.png")
    shutil.copy(good / "001.png", good / "in one part.png")
    Image.open(good / "002.png").save(good / "near.jpg", quality=80)
    index = opened(root)
    assert warned(index) == []
    split = parted(index, val="003 same", test="004 near")
    assert warned(index, split) == [
        ("good/000.png", "duplicate in split"),
        ("good/002.png", "near duplicate"),
        ("good/near.jpg", "near duplicate"),
        ("good/same.png", "duplicate in split"),
    ]
    exact, _, near, _ = check_dataset(index, split)
    assert exact.message.startswith("is in part train, and the same image good/same.png in part val; results on it are too good;")
    assert near.message.startswith("is in part test, and good/002.png in part train is nearly the same (similarity 0.")
    together = tuple(replace(s, group="one") if s.image.stem in ("002", "near") else s for s in index.samples)
    assert [kind for _, kind in warned(replace(index, samples=together), split)] == [
        "duplicate in split",
        "divided group",
        "duplicate in split",
    ]


def test_divided_groups(tmp_path):
    index = opened(draw_folder(tmp_path, 14, 0))
    groups = {"000": "a", "001": "a", "002": "a", "003": "b", "004": "b", "005": "c"}
    index = replace(index, samples=tuple(replace(s, group=groups.get(s.image.stem)) for s in index.samples))
    (problem,) = check_dataset(index, parted(index, val="002 006", test="003 004 007"))
    assert (problem.sample, problem.kind, problem.severity) == ("good/002.png", "divided group", "warning")
    assert problem.message.startswith("its group a is divided: train 2, val 1;")


def test_the_split_is_made_of_what_is_left(folder_root):
    (folder_root / "good" / "000.png").write_bytes(b"")
    index, asked = opened(folder_root), []

    def divide(rest: Dataset) -> SplitAssignment:
        asked.append([sample.id for sample in rest.samples])
        return make_split(rest, "holdout")

    (problem,) = check_dataset(index, divide)
    assert (problem.sample, problem.kind) == ("good/000.png", "unreadable")
    assert asked[-1] == [sample.id for sample in index.samples[:10]] + [f"good/{i:03}.png" for i in range(1, 20)]


def test_what_cannot_be_split(tmp_path):
    problems = check_dataset(opened(draw_folder(tmp_path / "good", 12, 0)), lambda rest: make_split(rest, "holdout"))
    assert [(p.sample, p.kind, p.severity) for p in problems] == [("", "split", "error")]


def test_a_wrong_k_is_said_before_images_are_read(folder_root, monkeypatch):
    monkeypatch.setattr("adjobs.data.checks.preflight.in_threads", None)
    with pytest.raises(JobError, match="k is 99"):
        check_dataset(opened(folder_root), lambda rest: make_split(rest, "holdout", max_train_anomalies=99))


def test_limits(folder_root):
    index = opened(folder_root)
    normal = parted(index, val="015 016", test="017 018")
    normal = replace(normal, train=tuple(name for name in normal.train if name.startswith("good/")))

    def found(split: SplitAssignment | None, **requirements: int) -> dict[str, str]:
        problems = check_dataset(index, split, requirements=DataRequirements(**requirements))
        assert all(problem.severity == "error" and not problem.sample for problem in problems)
        return {problem.kind: problem.message.partition(";")[0] for problem in problems}

    assert found(make_split(index, "holdout"), needs_train_anomalies=True, needs_val_anomalies=True, min_val_normals=4) == {}
    assert found(normal) == {}
    assert found(normal, needs_train_anomalies=True, needs_val_anomalies=True, min_val_normals=3) == {
        "few anomalous in train": "part train has no anomalous images",
        "few anomalous in val": "part val has no anomalous images",
        "few normal in val": "part val has 2 normal images",
    }
    assert found(None, min_normal_images=21, needs_train_anomalies=True) == {"few normals": "20 usable normal images (of 20)"}


def test_a_choice_that_validation_cannot_make_is_a_warning(folder_root):
    index = opened(folder_root)
    split = parted(index, val="015 016", test="017 018")
    assert check_dataset(index, split) == check_dataset(index, make_split(index, "holdout"), requirements=DataRequirements(selects_on_val=True)) == []
    (found,) = check_dataset(index, split, requirements=DataRequirements(selects_on_val=True))
    assert (found.kind, found.severity) == ("no choice of checkpoint", "warning")


def test_errors_come_first_and_only_they_exclude(tmp_path):
    root = draw_folder(tmp_path, 14, 0)
    (root / "good" / "009.png").write_bytes(b"")
    save(root / "good" / "001.png", np.zeros((64, 64), np.uint8))
    index = opened(root)
    index = replace(index, samples=(Sample("a", index.samples[0].image, "unlabelled"), *index.samples[1:]))
    problems = check_dataset(index)
    assert [(p.sample, p.kind) for p in problems] == [
        ("good/009.png", "unreadable"),
        ("good/001.png", "one colour"),
        ("", "unlabelled"),
    ]
    assert {sample.id for sample in index.samples} - {sample.id for sample in without_invalid(index, problems).samples} == {
        "good/009.png"
    }
