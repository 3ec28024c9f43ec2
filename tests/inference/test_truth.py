"""Labels of images that are predicted, only where they are known."""

from __future__ import annotations

import pytest

from adjobs.inference.truth import Truth, find_truth
from tests.helpers.detectors import draw_image


def names_below(root) -> list[str]:
    return sorted(str(path) for path in root.rglob("*.png"))


def known(sources, names, tmp_path) -> dict[str, tuple[bool, str]]:
    """By the last two names of each path."""
    truth = find_truth(sources, names, tmp_path / "cache")
    return {"/".join(name.split("/")[-2:]): tuple(each) for name, each in truth.items()}


def test_find_truth_folders_that_are_no_data_set_by_their_names_alone(tmp_path):
    for folder in ("good", "ok", "NG", "scratch", "new"):
        draw_image(tmp_path / "shift" / folder, "a.png")
    draw_image(tmp_path / "shift", "b.png")
    assert known([tmp_path / "shift"], names_below(tmp_path / "shift"), tmp_path) == {
        "good/a.png": (False, ""),
        "ok/a.png": (False, ""),
        "NG/a.png": (True, ""),
    }


def test_find_truth_far_above_the_images_names_say_nothing(tmp_path):
    draw_image(tmp_path / "good" / "line" / "images", "a.png")
    assert find_truth([tmp_path / "good" / "line"], names_below(tmp_path), tmp_path / "cache") == {}


@pytest.mark.parametrize("source", ["folder", "folder/bad", "folder/bad/scratch"])
def test_find_truth_of_a_data_set_or_a_folder_in_it_has_the_defect_type(tmp_path, source):
    draw_image(tmp_path / "folder" / "good", "a.png")
    draw_image(tmp_path / "folder" / "bad" / "scratch", "b.png")
    truth = known([tmp_path / source], names_below(tmp_path / source), tmp_path)
    assert truth["scratch/b.png"] == (True, "scratch")
    assert ("good/a.png" in truth) == (source == "folder")


def test_find_truth_of_published_test_images(mvtec_root, tmp_path):
    names = names_below(mvtec_root / "test")
    for sources in ([mvtec_root / "test"], names, [mvtec_root]):
        truth = find_truth(sources, names, tmp_path / "cache")
        assert set(truth) == set(names)
        for name, each in truth.items():
            folder = name.split("/")[-2]
            assert each == (Truth(False) if folder == "good" else Truth(True, folder))


def test_find_truth_new_images_beside_a_data_set_have_none(tmp_path):
    draw_image(tmp_path / "line" / "good", "a.png")
    draw_image(tmp_path / "line" / "bad", "b.png")
    draw_image(tmp_path / "line" / "new", "c.png")
    truth = known([tmp_path / "line"], names_below(tmp_path / "line"), tmp_path)
    assert truth == {"good/a.png": (False, ""), "bad/b.png": (True, "")}
    assert find_truth([tmp_path / "line" / "new"], names_below(tmp_path / "line" / "new"), tmp_path / "cache") == {}


def test_find_truth_relative_paths_and_addresses(tmp_path, monkeypatch):
    draw_image(tmp_path / "line" / "good", "a.png")
    draw_image(tmp_path / "line" / "bad" / "dent", "b.png")
    monkeypatch.chdir(tmp_path)
    names = ["line/bad/dent/b.png", "line/good/../good/a.png", "s3://bucket/ok/c.png", "s3://bucket/d.png"]
    assert find_truth(["line", "s3://bucket"], names, tmp_path / "cache") == {
        names[0]: Truth(True, "dent"),
        names[1]: Truth(False),
        names[2]: Truth(False),
    }
