"""Which images can be suggested at all."""

from __future__ import annotations

import logging
import math
import shutil

import pytest
from PIL import Image

from adjobs.errors import DataError
from adjobs.labelling import model as model_module
from adjobs.labelling.candidates import gather_candidates
from adjobs.labelling.images import KnownImages
from tests.helpers.detectors import NotFinite, brightness_detector, draw_image
from tests.helpers.labelling import draw_textured, suggested_names


def test_candidates_leave_out_labelled_images_and_copies(run, tmp_path):
    labelled = draw_textured(tmp_path / "data", "l.png", 1, 250)
    shutil.copy(labelled, draw_textured(tmp_path / "images", "same.png", 2, 100))
    Image.open(labelled).save(tmp_path / "images" / "again.jpg", quality=80)
    new = draw_textured(tmp_path / "images", "new.png", 3, 240)
    shutil.copy(new, tmp_path / "images" / "zz-copy.png")
    result = run(KnownImages((labelled,), (labelled,)))
    assert suggested_names(result) == ["new.png"]
    left_out = {item.source.path.name: (item.of, item.is_labelled) for item in result.duplicates}
    assert left_out == {
        "same.png": (str(labelled), True),
        "again.jpg": (str(labelled), True),
        "zz-copy.png": (str(new), False),
    }


def test_candidates_when_all_are_labelled_is_refused(run, tmp_path):
    labelled = draw_textured(tmp_path / "images", "l.png", 1, 250)
    with pytest.raises(DataError, match=r"none of the 1 images is left to label: 1 repeat images .*give images that are not"):
        run(KnownImages((labelled,), (labelled,)))


def test_candidates_labelled_image_that_is_gone_is_ignored(run, tmp_path):
    draw_textured(tmp_path / "images", "a.png", 1, 250)
    gone = (tmp_path / "gone.png",)
    assert suggested_names(run(KnownImages(gone, gone))) == ["a.png"]


def test_candidates_images_that_fail_are_listed_and_the_others_chosen(run, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    draw_image(tmp_path / "images", "white.png", (0, 0, 160, 96))
    draw_image(tmp_path / "images", "dark.png", brightness=99)
    result = run(method=NotFinite(math.nan))
    assert suggested_names(result) == ["dark.png"]
    assert sorted(failure.source.path.name for failure in result.failures) == ["broken.png", "white.png"]


def test_candidates_when_none_can_be_read_is_refused(run, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"none of the 1 images can be scored, first: .*broken\.png"):
        run()


def test_candidates_do_not_need_a_run(settings, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(model_module.TorchDetector, "load", lambda folder, device: brightness_detector())
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "detector.json").write_text("{}")
    draw_image(tmp_path / "images", "a.png")
    with caplog.at_level(logging.WARNING):
        assert len(gather_candidates(tmp_path / "detector", [tmp_path / "images"], settings).scored) == 1
    assert "its run is not known; images are compared with each other alone" in caplog.text
