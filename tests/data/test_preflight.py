from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from adjobs.data.index import Index, open_index
from adjobs.data.preflight import Problem, check, without
from tests.data.test_images import write_huge_png
from tests.drawing import draw_folder, save, texture


def opened(root: Path) -> Index:
    return open_index(str(root), cache=Path("unused"))


def test_nothing_wrong(folder_root, mvtec_root):
    for root in (folder_root, mvtec_root):
        index = opened(root)
        assert check(index) == []
        assert without(index, []) == index


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
    problems = check(index)
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
    rest = without(index, problems)
    assert len(rest.samples) == len(index.samples) - 8
    assert check(rest) == []


def test_mask_with_pixels_on_a_normal_image(tmp_path):
    for i in range(11):
        save(tmp_path / "MT_Free" / "Imgs" / f"{i}.jpg", texture(32, np.random.default_rng(i)))
        save(tmp_path / "MT_Free" / "Imgs" / f"{i}.png", np.full((32, 32), i == 3))
    reason = "mask 3.png marks 1024 pixels on a normal image, which has no defects; correct the label or the mask"
    assert check(opened(tmp_path)) == [Problem("MT_Free/Imgs/3.jpg", "mask not empty", reason)]


def test_the_same_image_in_two_published_parts(mvtec_root):
    shutil.copy(mvtec_root / "test" / "good" / "015.png", mvtec_root / "train" / "good" / "copy.png")
    reason = (
        "is in part train, and the same image test/good/015.png in part test; an image belongs to one part; remove one of the two"
    )
    assert check(opened(mvtec_root)) == [Problem("train/good/copy.png", "duplicate part", reason)]


def test_an_image_that_vanished(folder_root):
    index = opened(folder_root)
    (folder_root / "good" / "007.png").unlink()
    (problem,) = check(index)
    assert (problem.sample, problem.kind) == ("good/007.png", "unreadable")
    assert "cannot be read (No such file or directory)" in problem.message


def test_few_and_no_normals(tmp_path):
    root = draw_folder(tmp_path, 9, 1)
    index = opened(root)
    need = "at least 10 are needed; add good images or mend those above"
    assert check(index) == [Problem("", "few normals", f"9 usable normal images (of 9); {need}")]
    for path in (root / "good").iterdir():
        path.write_bytes(b"")
    problems = check(index)
    assert problems[-1] == Problem("", "no normals", f"no usable normal images (of 9); {need}")
    assert [problem.kind for problem in problems[:-1]] == ["unreadable"] * 9
