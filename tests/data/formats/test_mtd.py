from __future__ import annotations

from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_mtd


def test_read_close_running_numbers_are_one_group(tmp_path):
    free = ["exp1_num_100", "exp2_num_130", "exp3_num_155", "exp1_num_900", "other"]
    root = draw_mtd(tmp_path, free, ["exp1_num_400", "exp2_num_440", "exp3_num_470"])
    samples = {sample.image.stem: sample for sample in open_folder(root).samples}
    assert {name: sample.group for name, sample in samples.items()} == {
        "exp1_num_100": "tile-100",
        "exp2_num_130": "tile-100",
        "exp3_num_155": "tile-100",
        "exp1_num_400": "tile-400",
        "exp2_num_440": "tile-400",
        "exp3_num_470": "tile-400",
        "exp1_num_900": "tile-900",
        "other": None,
    }
    broken = samples["exp1_num_400"]
    assert (broken.label, broken.defect) == ("anomalous", "break")
    assert broken.mask == broken.image.with_suffix(".png")
    assert samples["other"].label == "normal"
