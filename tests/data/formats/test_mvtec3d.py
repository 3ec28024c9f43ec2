from __future__ import annotations

from collections import Counter

from tests.helpers.datasets import by_id, open_folder
from tests.helpers.layouts import LAYOUTS


def test_read_only_colour_images_are_samples(tmp_path):
    root = LAYOUTS["mvtec3d"](tmp_path)
    samples = by_id(open_folder(root).samples)
    assert Counter((s.published_split, s.label) for s in samples.values()) == {
        ("train", "normal"): 10,
        ("val", "normal"): 3,
        ("test", "normal"): 3,
        ("test", "anomalous"): 4,
    }
    anomalous = samples["test/hole/rgb/002.png"]
    assert (anomalous.defect, anomalous.mask) == ("hole", root / "test" / "hole" / "gt" / "002.png")
    assert samples["test/good/rgb/000.png"].mask == root / "test" / "good" / "gt" / "000.png"
    assert samples["train/good/rgb/000.png"].mask is None
