from __future__ import annotations

import shutil

import numpy as np

from tests.helpers.datasets import by_id, open_folder
from tests.helpers.drawing import draw_images, draw_mvtec, save, texture


def test_read_published_layout_has_splits_defects_and_masks(tmp_path):
    root = draw_mvtec(tmp_path, 8, 2)
    save(root / "validation" / "good" / "a.PNG", texture(16, np.random.default_rng(0)))
    shutil.move(root / "ground_truth" / "scratch" / "001_mask.png", root / "ground_truth" / "scratch" / "001.png")
    samples = by_id(open_folder(root).samples)
    assert len(samples) == 11
    scratched = samples["test/scratch/000.png"]
    assert (scratched.label, scratched.defect, scratched.published_split, scratched.group) == (
        "anomalous",
        "scratch",
        "test",
        None,
    )
    assert scratched.mask == root / "ground_truth" / "scratch" / "000_mask.png"
    assert samples["test/scratch/001.png"].mask == root / "ground_truth" / "scratch" / "001.png"
    normal = samples["train/good/000.png"]
    assert (normal.label, normal.defect, normal.published_split, normal.mask) == ("normal", "", "train", None)
    assert samples["validation/good/a.PNG"].published_split == "val"


def test_read_rearranged_visa_is_mvtec(tmp_path):
    normal = ["train/good/0000.JPG", "test/good/0001.JPG"]
    for name, mask in draw_images(tmp_path, normal, ["test/bad/000.JPG"]).items():
        save(tmp_path / name.replace("test", "ground_truth").replace("JPG", "png"), mask)
    assert open_folder(tmp_path).format == "mvtec"
    anomalous = by_id(open_folder(tmp_path).samples)["test/bad/000.JPG"]
    assert (anomalous.defect, anomalous.mask) == ("bad", tmp_path / "ground_truth" / "bad" / "000.png")
