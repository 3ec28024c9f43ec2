"""Predictions of files: regions in the pixels of the image, and overlays."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from adjobs.errors import DataError, StorageError
from adjobs.inference.files import predict_files
from adjobs.inference.inputs import find_images
from adjobs.inference.overlay import OUTLINE, draw_overlay, shrink
from adjobs.inference.regions import find_regions
from adjobs.inference.results import LINES_FILE
from tests.helpers.detectors import Brightness, NotFinite, brightness_detector, draw_image


def predict(tmp_path, *paths, **options):
    return list(predict_files(brightness_detector(**options), paths, tmp_path / "out"))


def strict_lines(tmp_path) -> list[dict]:
    """The lines of the written file; NaN is not JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return [json.loads(line, parse_constant=refuse) for line in (tmp_path / "out" / LINES_FILE).read_text().splitlines()]


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


@pytest.mark.parametrize("size", [(1024, 700), (60, 200), (2000, 3), (384, 384)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_draw_overlay_is_the_same_for_the_shrunk_image_and_mixes_every_pixel_as_documented(size, mode):
    rng = np.random.default_rng(0)
    channels = (3,) if mode == "RGB" else ()
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], *channels), np.uint8))
    anomaly_map = rng.random((64, 64), dtype=np.float32)
    drawn = np.asarray(draw_overlay(image, anomaly_map, 0.2, 0.6))
    assert np.array_equal(drawn, np.asarray(draw_overlay(shrink(image), anomaly_map, 0.2, 0.6)))
    shrunk = shrink(image)
    pixels = np.asarray(shrunk.convert("RGB"), np.float32)
    heat = np.clip((np.asarray(Image.fromarray(anomaly_map).resize(shrunk.size, Image.Resampling.BILINEAR)) - 0.2) / 0.8, 0, 1)
    alpha = np.clip((heat - 0.25) * 2, 0, 0.65)[..., None]
    mixed = (1 - alpha) * pixels + alpha * 255 * colormaps["inferno"](heat)[..., :3]
    gaps = np.abs(drawn - np.concatenate([pixels, mixed], axis=1))
    assert gaps.max() < 12  # of 255: the map's colours are drawn from nine of them
    assert not gaps[:, : pixels.shape[1]].any()


def test_predict_files_unreadable_file_is_a_line_with_its_error(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    unreadable, normal = predict(tmp_path, tmp_path / "bad.png", draw_image(tmp_path, "a.png"))
    assert set(unreadable) == {"path", "error"}
    assert normal["decision"] == "normal"


@pytest.mark.parametrize("score", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_predict_files_score_or_map_that_is_not_finite_is_an_error_of_its_image(tmp_path, value, score):
    white, dark = draw_image(tmp_path, "white.png", (0, 0, 160, 96)), draw_image(tmp_path, "dark.png")
    failed, normal = predict(tmp_path, white, dark, method=NotFinite(value, score=score))
    assert failed["error"].startswith(f"{white}: the score or the anomaly map is NaN or infinite")
    assert normal["decision"] == "normal"
    assert strict_lines(tmp_path) == [failed, normal]


class Failing(Brightness):
    """Raises an error for white images."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def predict(self, images):
        if images.max() == 1:
            raise self.error
        return super().predict(images)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate\nmemory"), OSError(28, "No space left on device")])
def test_predict_files_any_error_of_one_file_leaves_the_others(tmp_path, error):
    white, dark = draw_image(tmp_path, "white.png", (0, 0, 160, 96)), draw_image(tmp_path, "dark.png")
    failed, normal = predict(tmp_path, white, dark, method=Failing(error))
    assert failed["error"].startswith(f"{white}: cannot be predicted (")
    assert "\n" not in failed["error"]
    assert normal["decision"] == "normal"


def test_predict_files_pipes_sockets_and_devices_are_errors_of_these_files(tmp_path):
    pipe, link, listener = tmp_path / "pipe.png", tmp_path / "zero.png", tmp_path / "socket.png"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listener))
        broken = tmp_path / "broken.png"
        broken.symlink_to(tmp_path / "gone.png")
        image = draw_image(tmp_path, "a.png")
        lines = predict(tmp_path, *find_images([pipe, link, listener, tmp_path / ("x" * 300 + ".png"), image]).images, broken)
    assert ["error" in line for line in lines] == [True, True, True, True, False, True]
    assert lines[0]["error"] == f"{pipe}: is not a regular file; give images, or folders of images"


def test_predict_files_long_names_and_names_that_differ_in_case_get_overlays_of_their_own(tmp_path):
    paths = []
    for folder, name in (("a", "ä" * 120), ("b", "ä" * 120), ("a", "ß"), ("b", "ẞ"), ("a", "x"), ("b", "X"), ("b", "x-2")):
        (tmp_path / folder).mkdir(exist_ok=True)
        paths.append(draw_image(tmp_path / folder, f"{name}.png"))
    lines = predict(tmp_path, *paths)
    overlays = [Path(line["overlay"]).name.casefold() for line in lines]
    assert len(set(overlays)) == len(paths)
    assert all((tmp_path / "out" / Path(line["overlay"]).name).is_file() for line in lines)


def test_predict_files_folder_predicted_twice_has_the_same_images(tmp_path, monkeypatch):
    draw_image(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    lines = [list(predict_files(brightness_detector(), find_images(["."]).images, Path("predictions"))) for _ in range(2)]
    assert [[line["path"] for line in run] for run in lines] == [["a.png"], ["a.png"]]


def test_predict_files_never_overwrites_an_image(tmp_path):
    image = draw_image(tmp_path, "a.png")
    content = image.read_bytes()
    other = draw_image(tmp_path / "other", "a.jpg")
    with pytest.raises(StorageError, match=r"a\.png: exists and was not written by 'adjobs predict'"):
        list(predict_files(brightness_detector(), [other], tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "other"}
    assert image.read_bytes() == content
    (line,) = predict(tmp_path, image)
    overlay = Path(line["overlay"])
    content = overlay.read_bytes()
    (line,) = predict(tmp_path, overlay)
    assert Path(line["overlay"]).name == "a-2.png"
    assert overlay.read_bytes() == content


def test_find_images_missing_path_is_refused(tmp_path):
    for missing in (tmp_path / "no.png", tmp_path / "no", "a\0b", "", " "):
        with pytest.raises(DataError, match="no such file or folder"):
            find_images([missing])
