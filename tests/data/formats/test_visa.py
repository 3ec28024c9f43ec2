from __future__ import annotations

import shutil
from collections import Counter

import pytest

from adjobs.data.labels.masks import read_mask
from adjobs.errors import DataError
from tests.helpers.datasets import by_id, open_folder
from tests.helpers.drawing import draw_visa


def test_read_published_layout_has_splits_and_defects(tmp_path):
    root = draw_visa(tmp_path / "pcb1")
    samples = by_id(open_folder(root).samples)
    assert Counter((s.published_split, s.label) for s in samples.values()) == {
        ("train", "normal"): 12,
        ("test", "normal"): 3,
        ("test", "anomalous"): 4,
    }
    two = samples["Data/Images/Anomaly/001.JPG"]
    assert (two.defect, two.mask) == ("bent+chunk of wax missing", root / "Data" / "Masks" / "Anomaly" / "001.png")
    # Masks hold class numbers, here 2, and not 255.
    assert read_mask(two.mask).any()


def test_read_without_lists_has_no_splits_or_defects(tmp_path):
    root = draw_visa(tmp_path / "pcb1")
    (root / "image_anno.csv").unlink()
    shutil.rmtree(tmp_path / "split_csv")
    assert {(s.published_split, s.defect) for s in open_folder(root).samples} == {(None, "")}


def test_read_inconsistent_split_list_is_refused(tmp_path):
    root = draw_visa(tmp_path / "pcb1")
    (root / "Data" / "Images" / "Normal" / "0003.JPG").unlink()
    with pytest.raises(DataError, match=r"1cls.csv: line 6 names pcb1/Data/Images/Normal/0003.JPG, which does not exist"):
        open_folder(root)
    renamed = root.rename(tmp_path / "board")
    with pytest.raises(DataError, match=r"1cls.csv: has no line for object board; .*; rename the folder or remove the list$"):
        open_folder(renamed)
    (tmp_path / "split_csv" / "1cls.csv").write_text("board,learn,normal,board/Data/Images/Normal/0000.JPG,\n")
    with pytest.raises(DataError, match=r"1cls.csv: line 1 is 'board,learn,.*'; expected object,split,label,image,mask"):
        open_folder(renamed)
