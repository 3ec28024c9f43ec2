from __future__ import annotations

from collections import Counter

import pytest

from adjobs.data.images import ImageError
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


def test_read_unreadable_mask_is_refused(tmp_path):
    root = LAYOUTS["ksdd2"](tmp_path)
    (root / "train" / "10001_GT.png").write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"train/10001_GT.png: is not a supported image"):
        open_folder(root)
