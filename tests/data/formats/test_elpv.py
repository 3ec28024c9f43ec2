from __future__ import annotations

import pytest

from adjobs.errors import DataError
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_elpv


def test_read_probability_above_zero_is_anomalous(tmp_path):
    samples = open_folder(draw_elpv(tmp_path, [0.0, 0.3333333333333333, 0.6666666666666666, 1.0])).samples
    assert [(sample.label, sample.defect) for sample in samples] == [
        ("normal", ""),
        ("anomalous", "p=0.33"),
        ("anomalous", "p=0.67"),
        ("anomalous", "p=1.00"),
    ]


@pytest.mark.parametrize(
    "line", ["images/a.png 1.5 mono", "images/a.png mono", "images/../../a.png 0 mono", "images/a.png nan x"]
)
def test_read_malformed_line_is_refused(line, tmp_path):
    root = draw_elpv(tmp_path, [0.0])
    with (root / "labels.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"labels.csv: line 2 is 'images/.*'; expected 'images/x.png <0 to 1> <cell type>'"):
        open_folder(root)
