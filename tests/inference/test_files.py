"""Predictions of files: regions in the pixels of the image, and overlays."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from adjobs.inference.files import predict_files
from adjobs.inference.overlay import OUTLINE, draw_overlay
from adjobs.inference.regions import find_regions
from tests.helpers.detectors import brightness_detector, draw_image


def predict(tmp_path, *paths, **options):
    return list(predict_files(brightness_detector(**options), paths, tmp_path / "out"))


def overlap(predicted: list[int], true: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes."""
    width = min(predicted[2], true[2]) - max(predicted[0], true[0])
    height = min(predicted[3], true[3]) - max(predicted[1], true[1])
    common = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (predicted, true)]
    return common / (sum(areas) - common)


def test_predict_files_boxes_are_in_pixels_of_the_image_largest_first(tmp_path):
    small, large = (120, 60, 140, 75), (20, 10, 60, 50)
    (line,) = predict(tmp_path, draw_image(tmp_path, "a.png", small, large))
    assert line["decision"] == "anomalous"
    assert [overlap(box, true) > 0.85 for box, true in zip(line["regions"], (large, small), strict=True)] == [True, True]
    share = (20 * 15 + 40 * 40) / (160 * 96)
    assert line["defect_area"] == pytest.approx(share, rel=0.1)
    assert json.loads((tmp_path / "out" / "predictions.jsonl").read_text()) == line


def test_predict_files_normal_image_has_a_defect_area_but_no_regions(tmp_path):
    """Brighter than the pixel threshold, not as bright as the image threshold."""
    (line,) = predict(tmp_path, draw_image(tmp_path, "a.png", (20, 10, 60, 50), brightness=180))
    assert (line["decision"], line["regions"]) == ("normal", [])
    assert line["defect_area"] > 0.05
    assert not outlined(line["overlay"]).any()


@pytest.mark.parametrize("options", [{"gives_map": False}, {"pixel": None}])
def test_predict_files_without_maps_or_pixel_threshold_has_no_regions(tmp_path, options):
    (line,) = predict(tmp_path, draw_image(tmp_path, "a.png", (20, 10, 60, 50)), **options)
    assert (line["decision"], line["defect_area"], line["regions"]) == ("anomalous", None, [])
    assert ("overlay" in line) == options.get("gives_map", True)


def outlined(path) -> np.ndarray:
    """Pixels of an overlay's right half in the outline's colour."""
    pixels = np.asarray(Image.open(path))
    return (pixels[:, pixels.shape[1] // 2 :] == OUTLINE).all(-1)


def test_draw_overlay_outlines_the_regions_and_leaves_them_visible(tmp_path):
    (line,) = predict(tmp_path, draw_image(tmp_path, "a.png", (40, 24, 120, 72)))
    line_pixels = outlined(line["overlay"])
    rows, columns = np.nonzero(line_pixels)
    scale = 384 / 160
    assert np.allclose([columns.min(), rows.min(), columns.max(), rows.max()], np.array([40, 24, 120, 72]) * scale, atol=8)
    middle = line_pixels[int(30 * scale) : int(66 * scale), int(46 * scale) : int(114 * scale)]
    assert not middle.any()
    left_half = np.asarray(Image.open(line["overlay"]))[:, :384]
    assert not (left_half == OUTLINE).all(-1).any()


def test_draw_overlay_colours_depend_on_the_pixel_threshold_not_on_the_score(tmp_path):
    """A score may count in thousands and the map in hundredths."""
    path = draw_image(tmp_path, "a.png", (40, 24, 80, 48))
    overlays = []
    for image in (0.8, -1000.0):
        (line,) = predict(tmp_path, path, image=image)
        overlays.append(np.asarray(Image.open(line["overlay"])).copy())
    assert np.array_equal(*overlays)


def test_find_regions_diagonal_neighbours_are_one_region_and_specks_are_dropped():
    defect_mask = np.zeros((256, 256), bool)
    defect_mask[10:14, 10:14] = defect_mask[14:18, 14:18] = True  # touch at a corner
    defect_mask[100:103, 100:104] = True  # 12 pixels, 13.1 are needed
    defect_mask[200:202, 200:207] = True  # 14
    boxes, region_mask = find_regions(defect_mask, (256, 256))
    assert boxes == ((10, 10, 18, 18), (200, 200, 207, 202))
    assert region_mask.sum() == 32 + 14


def test_find_regions_box_holds_every_pixel_and_stays_in_the_image():
    defect_mask = np.zeros((64, 64), bool)
    defect_mask[:, 63] = defect_mask[63] = True
    boxes, _ = find_regions(defect_mask, (101, 37))
    assert boxes == ((0, 0, 101, 37),)


def test_find_regions_empty_mask_has_none():
    boxes, region_mask = find_regions(np.zeros((64, 64), bool), (10, 10))
    assert (boxes, region_mask.any()) == ((), False)


def test_draw_overlay_thin_regions_survive_shrinking():
    defect_mask = np.zeros((1024, 1024), bool)
    defect_mask[500, 100:900] = True
    overlay = draw_overlay(Image.new("RGB", (1024, 1024)), defect_mask.astype(np.float32), 0, 0.5, defect_mask)
    assert (np.asarray(overlay) == OUTLINE).all(-1).any()


def test_predict_files_unreadable_file_is_a_line_with_its_error(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    unreadable, normal = predict(tmp_path, tmp_path / "bad.png", draw_image(tmp_path, "a.png"))
    assert set(unreadable) == {"path", "error"}
    assert normal["decision"] == "normal"
