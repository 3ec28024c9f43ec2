"""Files that are read, predicted and drawn at the same time: results as one by one, in order; errors stay with their files."""

from __future__ import annotations

import json
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adjobs import methods
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.inference import pipeline, torch_detector
from adjobs.inference.detector import CPU_BATCH
from adjobs.inference.files import predict_files
from adjobs.inference.overlay import draw_overlay
from adjobs.inference.pipeline import predict_ahead
from adjobs.inference.results import LINES_FILE
from adjobs.inference.torch_detector import TorchDetector
from tests.helpers.detectors import SIDE, Brightness, NotFinite, brightness_detector, draw_image, make_manifest

ALL_WHITE = (0, 0, 160, 96)


def set_cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(pipeline, "cores", lambda: count)
    monkeypatch.setattr(torch_detector, "cores", lambda: count)


def draw_noise(folder: Path, count: int) -> list[Path]:
    """Images of different sizes and kinds."""
    rng, paths = np.random.default_rng(0), []
    folder.mkdir()
    for index in range(count):
        shape = (80 + 10 * index, 150 - 5 * index, 3) if index % 3 else (90, 60 + 7 * index)
        paths.append(folder / f"{index:02}.{'png' if index % 2 else 'jpg'}")
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).resize((120, 70 + index), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def cdo_detector(paths: list[Path]) -> TorchDetector:
    """A network with random weights, and thresholds between the scores and the pixels of some images."""
    module = methods.load("cdo")
    config = module.config(backbone="resnet18", weights="none", distance="euclidean", last_level=1)
    device = torch.device("cpu")
    method = module.build(config, image_size=SIDE, seed=0)
    predictions = TorchDetector(method, make_manifest(image_size=SIDE), device)(list(paths))
    scores = sorted(prediction.score for prediction in predictions)
    pixels = float(np.quantile([prediction.anomaly_map for prediction in predictions], 0.9))
    manifest = make_manifest(image_size=SIDE, threshold=float(np.mean(scores[4:6])), pixel=pixels, map_floor=pixels / 2)
    return TorchDetector(method, manifest, device)


@pytest.mark.parametrize("threads", [1, 2])
def test_predict_files_equals_the_detector_one_by_one_but_for_the_rounding_of_batches(tmp_path, threads, monkeypatch):
    set_cores(monkeypatch, 4)
    paths = draw_noise(tmp_path / "images", 11)
    detector = cdo_detector(paths)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        lines, again = [list(predict_files(detector, paths, tmp_path / "out")) for _ in range(2)]
    finally:
        torch.set_num_threads(before)
    assert [line["path"] for line in lines] == [str(path) for path in paths]
    assert {line["decision"] for line in lines} == {"normal", "anomalous"}
    assert [line["score"] for line in again] == [line["score"] for line in lines]
    for path, line in zip(paths, lines, strict=True):
        expected = detector(path)
        assert line["score"] == pytest.approx(expected.score, rel=1e-5)
        assert line["decision"] == expected.decision
        assert line["regions"] == [list(region) for region in expected.regions]
        assert line["defect_area"] == pytest.approx(expected.defect_area, abs=2 / SIDE**2)
        image = detector.read_image(path).image
        manifest = detector.manifest
        drawn = draw_overlay(image, expected.anomaly_map, manifest.map_floor, detector.pixel_threshold, expected.region_mask)
        difference = np.asarray(drawn, np.int16) - np.asarray(Image.open(line["overlay"]), np.int16)
        assert np.abs(difference).max() <= 1


class Failing(Brightness):
    """Has too little memory for white images, in whichever batch they are, and for more than some at a time."""

    def __init__(self, limit: int = 100) -> None:
        super().__init__()
        self.limit = limit

    def predict(self, images):
        if images.amax((1, 2, 3)).max() == 1 or len(images) > self.limit:
            raise RuntimeError("can't allocate\nmemory")
        return super().predict(images)


@pytest.mark.parametrize("white", range(CPU_BATCH + 1))
@pytest.mark.parametrize("method", [NotFinite(float("nan")), NotFinite(float("inf"), score=False), Failing()])
def test_predict_files_error_in_a_batch_is_that_of_its_image_alone(tmp_path, white, method):
    paths = [draw_image(tmp_path, f"{i}.png", (20, 10, 60, 50), brightness=40 + 10 * i) for i in range(2 * CPU_BATCH + 1)]
    draw_image(tmp_path, paths[white].name, ALL_WHITE)
    paths[-2].write_bytes(b"not an image")
    paths[-3].unlink()
    lines = list(predict_files(brightness_detector(method=method), paths, tmp_path / "out"))
    failed = {white, len(paths) - 2, len(paths) - 3}
    assert {index for index, line in enumerate(lines) if "error" in line} == failed
    assert all(line["error"].startswith(str(paths[index])) for index, line in enumerate(lines) if "error" in line)
    for index in set(range(len(paths))) - failed:
        assert lines[index]["score"] == pytest.approx((40 + 10 * index) / 255)
    assert [json.loads(line) for line in (tmp_path / "out" / LINES_FILE).read_text().splitlines()] == lines


def test_predict_files_too_little_memory_for_a_batch_predicts_its_images_one_by_one(tmp_path):
    paths = [draw_image(tmp_path, f"{i}.png") for i in range(CPU_BATCH + 2)]
    lines = list(predict_files(brightness_detector(method=Failing(1)), paths, tmp_path / "out"))
    assert [line["decision"] for line in lines] == ["normal"] * len(paths)


def test_predict_files_disk_that_refuses_an_overlay_is_the_error_of_its_image(tmp_path, monkeypatch):
    def refuse(overlay):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("adjobs.inference.files.encode_overlay", refuse)
    (line,) = predict_files(brightness_detector(), [draw_image(tmp_path, "a.png")], tmp_path / "out")
    assert "No space left on device" in line["error"]


def test_predict_files_that_is_stopped_keeps_its_lines_and_reads_no_further(tmp_path, monkeypatch):
    set_cores(monkeypatch, 2)
    paths = [draw_image(tmp_path, f"{i:03}.png") for i in range(100)]
    detector, read = brightness_detector(), []
    read_image = detector.read_image
    monkeypatch.setattr(detector, "read_image", lambda path: (read.append(path), read_image(path))[1])
    running = predict_files(detector, paths, tmp_path / "out")
    lines = list(islice(running, 7))
    running.close()
    assert [json.loads(line) for line in (tmp_path / "out" / LINES_FILE).read_text().splitlines()] == lines
    assert len(read) < 60
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("predict-")]


def test_predict_ahead_never_holds_more_than_some_batches(tmp_path, monkeypatch):
    set_cores(monkeypatch, 2)
    paths = [draw_image(tmp_path, f"{i:03}.png") for i in range(80)]
    detector, read = brightness_detector(), []
    read_image = detector.read_image
    monkeypatch.setattr(detector, "read_image", lambda path: (read.append(path), read_image(path))[1])
    with detector.throughput_mode():
        batches = 1 + 2 + pipeline.BATCHES_AHEAD + pipeline.BATCHES_BEHIND
        for index, result in enumerate(predict_ahead(detector, list(map(str, paths)), lambda index, scored: index)):
            assert result == index
            assert len(read) <= index + CPU_BATCH * batches + 1


def test_predict_ahead_an_interrupt_while_it_waits_ends_its_threads(tmp_path, monkeypatch):
    set_cores(monkeypatch, 2)
    paths = [draw_image(tmp_path, f"{i:02}.png") for i in range(40)]

    def interrupt(index: int, scored: object) -> int:
        if index == 5:
            raise KeyboardInterrupt
        return index

    results = []
    with pytest.raises(KeyboardInterrupt):
        results.extend(predict_ahead(brightness_detector(), list(map(str, paths)), interrupt))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("predict-")]


def test_throughput_mode_holds_inside_only_and_fills_the_cores_with_batches(monkeypatch):
    set_cores(monkeypatch, 8)
    before, detector = torch.get_num_threads(), brightness_detector()
    with detector.throughput_mode():
        assert torch.get_num_threads() == 1
        assert detector.concurrent_batches == 8
    assert torch.get_num_threads() == before
    on_cpu = detector.batch_size
    detector.device_config = DeviceConfig(torch.device("cuda"))
    assert detector.concurrent_batches == 1
    assert on_cpu < detector.batch_size
