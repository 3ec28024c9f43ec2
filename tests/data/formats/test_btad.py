from __future__ import annotations

import pytest

from tests.helpers.datasets import by_id, open_folder
from tests.helpers.drawing import draw_images, save


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_read_masks_of_any_suffix_are_paired(suffix, tmp_path):
    masks = draw_images(tmp_path, ["train/ok/0000.png", "test/ok/0000.png"], ["test/ko/0000.png"])
    save(tmp_path / "ground_truth" / "ko" / f"0000.{suffix}", masks["test/ko/0000.png"])
    samples = by_id(open_folder(tmp_path).samples)
    assert {name: (s.published_split, s.label, s.defect) for name, s in samples.items()} == {
        "test/ko/0000.png": ("test", "anomalous", "ko"),
        "test/ok/0000.png": ("test", "normal", ""),
        "train/ok/0000.png": ("train", "normal", ""),
    }
    assert samples["test/ko/0000.png"].mask == tmp_path / "ground_truth" / "ko" / f"0000.{suffix}"
