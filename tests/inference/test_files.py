"""Predictions of files: what a line says of where the defect is, in the picture's own pixels, and what is drawn of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from adjobs.inference.detector import Detector, Manifest
from adjobs.inference.files import OUTLINE, draw_overlay, find_regions, predict_files
from adjobs.types import Prediction

SIDE = 64


class Brightness(nn.Module):
    """The map is the picture's brightness, the score the brightest pixel; or no map at all."""

    def __init__(self, gives_map: bool = True) -> None:
        super().__init__()
        self.gives_map = gives_map

    def predict(self, images: torch.Tensor) -> Prediction:
        grey = images.mean(1, keepdim=True)
        return Prediction(grey.amax((1, 2, 3)), grey if self.gives_map else None)


def detector(gives_map: bool = True, pixel: float | None = 0.5, image: float = 0.8) -> Detector:
    pixel_threshold = None if pixel is None else {"value": pixel}
    manifest = Manifest("cdo", {}, SIDE, {"value": image}, "f" * 64, 0.1, pixel_threshold)
    return Detector(Brightness(gives_map), manifest, torch.device("cpu"))


def picture(folder, name: str, *boxes: tuple[int, int, int, int], brightness: int = 255, size=(160, 96)):
    """A dark picture with bright rectangles."""
    pixels = np.full((size[1], size[0], 3), 30, np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = brightness
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path


def predict(tmp_path, *paths, **options):
    return list(predict_files(detector(**options), paths, tmp_path / "out"))


def overlap(found: list[int], true: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes."""
    width = min(found[2], true[2]) - max(found[0], true[0])
    height = min(found[3], true[3]) - max(found[1], true[1])
    common = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (found, true)]
    return common / (sum(areas) - common)


def test_boxes_are_in_the_pictures_own_pixels_largest_first(tmp_path):
    small, large = (120, 60, 140, 75), (20, 10, 60, 50)
    (line,) = predict(tmp_path, picture(tmp_path, "a.png", small, large))
    assert line["decision"] == "anomalous"
    assert [overlap(found, true) > 0.85 for found, true in zip(line["regions"], (large, small), strict=True)] == [True, True]
    share = (20 * 15 + 40 * 40) / (160 * 96)
    assert line["defect_area"] == pytest.approx(share, rel=0.1)
    assert json.loads((tmp_path / "out" / "predictions.jsonl").read_text()) == line


def test_a_good_image_has_an_area_but_no_regions(tmp_path):
    """Brighter than the pixel threshold, not as bright as the image threshold."""
    (line,) = predict(tmp_path, picture(tmp_path, "a.png", (20, 10, 60, 50), brightness=180))
    assert (line["decision"], line["regions"]) == ("normal", [])
    assert line["defect_area"] > 0.05
    assert not outlined(line["overlay"]).any()


@pytest.mark.parametrize("options", [{"gives_map": False}, {"pixel": None}])
def test_without_maps_or_a_threshold_for_them_nothing_is_said_of_places(tmp_path, options):
    (line,) = predict(tmp_path, picture(tmp_path, "a.png", (20, 10, 60, 50)), **options)
    assert (line["decision"], line["defect_area"], line["regions"]) == ("anomalous", None, [])
    assert ("overlay" in line) == options.get("gives_map", True)


def outlined(path) -> np.ndarray:
    """Pixels of an overlay's right half in the outline's colour."""
    pixels = np.asarray(Image.open(path))
    return (pixels[:, pixels.shape[1] // 2 :] == OUTLINE).all(-1)


def test_the_overlay_outlines_the_regions_and_leaves_them_visible(tmp_path):
    (line,) = predict(tmp_path, picture(tmp_path, "a.png", (40, 24, 120, 72)))
    line_pixels = outlined(line["overlay"])
    rows, columns = np.nonzero(line_pixels)
    scale = 384 / 160
    assert np.allclose([columns.min(), rows.min(), columns.max(), rows.max()], np.array([40, 24, 120, 72]) * scale, atol=8)
    middle = line_pixels[int(30 * scale) : int(66 * scale), int(46 * scale) : int(114 * scale)]
    assert not middle.any()
    left_half = np.asarray(Image.open(line["overlay"]))[:, :384]
    assert not (left_half == OUTLINE).all(-1).any()


def test_colours_turn_at_the_threshold_for_pixels_whatever_the_scores_scale(tmp_path):
    """A score may count in thousands and the map in hundredths."""
    path = picture(tmp_path, "a.png", (40, 24, 80, 48))
    overlays = []
    for image in (0.8, -1000.0):
        (line,) = predict(tmp_path, path, image=image)
        overlays.append(np.asarray(Image.open(line["overlay"])).copy())
    assert np.array_equal(*overlays)


def test_diagonal_neighbours_are_one_region_and_specks_are_none():
    marked = np.zeros((256, 256), bool)
    marked[10:14, 10:14] = marked[14:18, 14:18] = True  # touch at a corner
    marked[100:103, 100:104] = True  # 12 pixels, 13.1 are needed
    marked[200:202, 200:207] = True  # 14
    boxes, kept = find_regions(marked, (256, 256))
    assert boxes == [[10, 10, 18, 18], [200, 200, 207, 202]]
    assert kept.sum() == 32 + 14


def test_a_box_holds_every_marked_pixel_and_stays_in_the_picture():
    marked = np.zeros((64, 64), bool)
    marked[:, 63] = marked[63] = True
    boxes, _ = find_regions(marked, (101, 37))
    assert boxes == [[0, 0, 101, 37]]


def test_no_marked_pixel_no_region():
    boxes, kept = find_regions(np.zeros((64, 64), bool), (10, 10))
    assert (boxes, kept.any()) == ([], False)


def test_thin_regions_survive_in_a_smaller_overlay():
    marked = np.zeros((1024, 1024), bool)
    marked[500, 100:900] = True
    overlay = draw_overlay(Image.new("RGB", (1024, 1024)), marked.astype(np.float32), 0, 0.5, marked)
    assert (np.asarray(overlay) == OUTLINE).all(-1).any()


def test_a_file_that_cannot_be_read_is_a_line_too(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad, good = predict(tmp_path, tmp_path / "bad.png", picture(tmp_path, "a.png"))
    assert set(bad) == {"path", "error"}
    assert good["decision"] == "normal"
