"""Sources in any layout."""

from __future__ import annotations

import pytest

from adjobs.errors import DataError
from tests.helpers.datasets import open_folder
from tests.helpers.layouts import LAYOUTS
from tests.helpers.versioned import add, by_name, create, draw, open_set


@pytest.mark.parametrize("name", LAYOUTS)
def test_read_inbox_every_layout_can_be_added(name, tmp_path):
    root = LAYOUTS[name](tmp_path / "inbox")
    create(tmp_path)
    result = add(tmp_path, root)
    samples = {sample.id: sample for sample in open_folder(root).samples}
    assert result.added + result.duplicates + len(result.set_aside) == len(samples)
    for path, entry in by_name(open_set(tmp_path)).items():
        sample = samples[path]
        assert (entry.label, entry.defect, entry.group) == (sample.label, sample.defect, sample.group)
        assert (entry.split is None) == (entry.label == "unlabelled")
        assert (entry.sample.mask is None) == (sample.mask is None)


def test_read_inbox_of_a_damaged_export_is_refused(tmp_path):
    create(tmp_path)
    root = LAYOUTS["labelstudio"](tmp_path / "inbox")
    export = next(root.glob("*.json"))
    export.write_text(export.read_text()[:-5])
    with pytest.raises(DataError, match="is not valid JSON"):
        add(tmp_path, root)


def test_read_inbox_label_file_of_no_known_layout_is_warned_of(tmp_path, caplog):
    create(tmp_path)
    inbox = draw(tmp_path / "inbox", "a.png b.png")
    (inbox / "labels.csv").write_text("a.png;scratch")
    assert add(tmp_path, inbox).added == 2
    assert "labels.csv: not read, because no known layout has such a file" in caplog.text


def test_read_inbox_file_address_is_a_folder(tmp_path):
    create(tmp_path)
    (tmp_path / "inbox").mkdir()
    assert add(tmp_path, f"file://{tmp_path}/inbox", format="coco").version is None
    draw(tmp_path / "inbox", "good/a.png")
    result = add(tmp_path, f"file://{tmp_path}/inbox")
    assert result.version is not None
    assert result.version.source == str(tmp_path / "inbox")
