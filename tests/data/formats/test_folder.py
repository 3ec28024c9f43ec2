from __future__ import annotations

import numpy as np

from tests.helpers.datasets import by_id, open_folder
from tests.helpers.drawing import save, texture


def test_read_synonyms_defect_types_and_masks_are_recognised(tmp_path):
    for path in ["OK/a.png", "OK/deep/b.webp", "ng/plain.jpg", "ng/crack/c.bmp", "masks/crack/c.tif", "OK/.hidden.png"]:
        save(tmp_path / path, texture(16, np.random.default_rng(0)))
    samples = by_id(open_folder(tmp_path).samples)
    assert {name: sample.label for name, sample in samples.items()} == {
        "OK/a.png": "normal",
        "OK/deep/b.webp": "normal",
        "ng/crack/c.bmp": "anomalous",
        "ng/plain.jpg": "anomalous",
    }
    assert (samples["ng/crack/c.bmp"].defect, samples["ng/plain.jpg"].defect) == ("crack", "")
    assert samples["ng/crack/c.bmp"].mask == tmp_path / "masks" / "crack" / "c.tif"
    assert samples["ng/plain.jpg"].mask is None
