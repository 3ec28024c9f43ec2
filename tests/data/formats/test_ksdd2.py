from __future__ import annotations

import os
from collections import Counter

from tests.helpers.datasets import by_id, open_folder
from tests.helpers.layouts import LAYOUTS


def test_read_mask_with_defect_pixels_is_anomalous(tmp_path):
    root = LAYOUTS["ksdd2"](tmp_path)
    samples = by_id(open_folder(root).samples)
    assert Counter((s.published_split, s.label) for s in samples.values()) == {
        ("train", "normal"): 12,
        ("train", "anomalous"): 2,
        ("test", "normal"): 3,
        ("test", "anomalous"): 3,
    }
    assert samples["train/10100.png"].mask == root / "train" / "10100_GT.png"
    assert not any("copy" in name for name in samples)


def test_read_unreadable_masks_are_errors_of_their_images(tmp_path):
    root = LAYOUTS["ksdd2"](tmp_path)
    (root / "train" / "10001_GT.png").write_bytes(b"not an image")
    (root / "train" / "10002_GT.png").unlink()
    os.mkfifo(root / "train" / "10002_GT.png")
    dataset = open_folder(root)
    problems = {problem.sample: problem.message for problem in dataset.problems}
    assert problems["train/10001.png"].startswith("train/10001_GT.png: is not a supported image")
    assert problems["train/10002.png"].startswith("train/10002_GT.png: cannot be decoded (it is a pipe, not a file)")
    assert {by_id(dataset.samples)[name].label for name in problems} == {"unlabelled"}
