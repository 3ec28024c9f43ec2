from __future__ import annotations

from tests.helpers.datasets import by_id, open_folder
from tests.helpers.layouts import LAYOUTS


def test_read_patients_are_groups(tmp_path):
    samples = by_id(open_folder(LAYOUTS["oct"](tmp_path)).samples)
    assert {s.group for name, s in samples.items() if "train/NORMAL" in name} == {"1000", "1001", "1002"}
    # The number is the patient's whatever the class: one person may have several diseases.
    assert {name for name, s in samples.items() if s.group == "4000"} == {
        "test/CNV/CNV-4000-7.jpeg",
        "test/DME/DME-4000-7.jpeg",
        "test/DRUSEN/DRUSEN-4000-7.jpeg",
        "test/NORMAL/NORMAL-4000-1.jpeg",
    }
    drusen = samples["val/DRUSEN/DRUSEN-3000-7.jpeg"]
    assert (drusen.label, drusen.defect, drusen.published_split) == ("anomalous", "drusen", "val")
