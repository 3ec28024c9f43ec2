from __future__ import annotations

import json

import numpy as np
import pytest

from adjobs.data.formats.loco import read_defects
from adjobs.data.images import ImageError
from adjobs.data.labels.masks import Layers, read_mask
from adjobs.errors import DataError
from tests.helpers.datasets import by_id, open_folder
from tests.helpers.drawing import save
from tests.helpers.layouts import LAYOUTS


def test_read_several_defects_have_a_layer_each(tmp_path):
    root = LAYOUTS["loco"](tmp_path)
    samples = by_id(open_folder(root).samples)
    folder = root / "ground_truth" / "logical_anomalies" / "001"
    logical = samples["test/logical_anomalies/001.png"]
    assert (logical.published_split, logical.defect) == ("test", "logical_anomalies")
    assert logical.mask == Layers((folder / "000.png", folder / "001.png"), root / "defects_config.json")
    assert samples["validation/good/000.png"].published_split == "val"
    scratch, corner = read_defects(logical.mask)
    # The scratch saturates at 6 pixels, the corner of 4 x 5 at half its area.
    assert (scratch.saturation, corner.saturation, int(corner.pixels.sum())) == (6, 10, 20)
    assert np.array_equal(scratch.pixels | corner.pixels, read_mask(logical.mask))


@pytest.mark.parametrize(
    ("threshold", "relative", "saturation"),
    [(7, False, 7), (21, False, 20), (1.0, True, 20), (0.99, True, 19), (0.001, True, 1)],
)
def test_read_defects_saturation_threshold_is_clipped_to_area(threshold, relative, saturation, tmp_path):
    layer = np.zeros((8, 8), dtype=np.uint8)
    layer[:4, :5] = 7
    kinds = tmp_path / "kinds.json"
    kinds.write_text(json.dumps([{"pixel_value": 7, "saturation_threshold": threshold, "relative_saturation": relative}]))
    assert [d.saturation for d in read_defects(Layers((save(tmp_path / "0.png", layer),), kinds))] == [saturation]


def test_read_defects_ambiguous_layers_are_refused(tmp_path):
    root = LAYOUTS["loco"](tmp_path)
    mask = by_id(open_folder(root).samples)["test/structural_anomalies/000.png"].mask
    kinds = json.loads(mask.kinds.read_text())
    mask.kinds.write_text(json.dumps(kinds[1:]))
    with pytest.raises(
        DataError, match=r"000.png: value 255 is not a defect kind of .*defects_config.json; available: 254; add it there"
    ):
        read_defects(mask)
    mask.kinds.write_text(json.dumps([{**kinds[0], "pixel_value": 0}]))
    with pytest.raises(DataError, match=r"defects_config.json: 0.pixel_value is 0; input should be greater than or equal to 1;"):
        read_defects(mask)
    mask.kinds.write_text("[{]")
    with pytest.raises(DataError, match=r"defects_config.json: is not valid JSON \(.* line 1 column 3 .*\); export it again$"):
        read_defects(mask)
    with pytest.raises(DataError, match=r"has no list of defect kinds; .*; add defects_config.json$"):
        read_defects(Layers(mask.paths))
    mask.kinds.write_text(json.dumps(kinds))
    for layer, problem in (
        (np.zeros((32, 32)), "has 0 values"),
        (np.eye(32) + 1, "has 2 values"),
        (np.ones((9, 9, 3)), "has colours"),
    ):
        save(mask.paths[0], layer.astype(np.uint8))
        with pytest.raises(ImageError, match=rf"000.png: {problem}.*; expected one grey value"):
            read_defects(mask)
