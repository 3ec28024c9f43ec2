from __future__ import annotations

import numpy as np
import pytest

from adjobs.data.lookup import ImageFinder, UploadFinder, normal_form
from adjobs.data.reading import ReadContext
from tests.helpers.drawing import save

NFC, NFD = "Gehäuse.png", "Geha\u0308use.png"


@pytest.fixture
def root(tmp_path):
    for name in ("a.png", f"images/{NFD}", "images/b.png", "other/b.png"):
        save(tmp_path / name, np.zeros((4, 4), np.uint8))
    return tmp_path


def test_normal_form_both_forms_are_equal():
    assert NFC != NFD
    assert normal_form(NFD) == NFC


def test_find_first_folder_that_has_the_name(root):
    finder = ImageFinder(root, ReadContext())
    assert finder.find("b.png", [root, root / "other", root / "images"]) == root / "other" / "b.png"
    assert finder.find("images\\b.png", [root]) == root / "images" / "b.png"
    assert finder.find(NFC, [root, root / "images"]) == root / "images" / NFD
    assert finder.find("x" * 300, [root]) is None


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a.png", "images\\..\\..\\a.png"])
def test_find_name_outside_the_data_set_is_refused(root, name):
    with pytest.raises(ValueError, match=r"is not inside the data set; allowed are relative paths without \.\."):
        ImageFinder(root, ReadContext()).find(name, [root])


def test_named_all_images_of_a_name(root):
    finder = ImageFinder(root, ReadContext())
    assert finder.named("b.png") == [root / "images" / "b.png", root / "other" / "b.png"]
    assert finder.named(NFC) == [root / "images" / NFD]
    assert finder.named("none.png") == []


def test_uploaded_has_the_name_or_gets_it(tmp_path):
    for name in ("a b.png", "a_b.png", "c (1).png", NFD):
        save(tmp_path / name, np.zeros((4, 4), np.uint8))
    finder = UploadFinder(tmp_path, ReadContext())
    assert finder.uploaded("a_b.png") == [tmp_path / "a_b.png"]
    assert finder.uploaded("c_1.png") == [tmp_path / "c (1).png"]
    assert finder.uploaded(NFC) == [tmp_path / NFD]
    assert finder.uploaded("d.png") == []
