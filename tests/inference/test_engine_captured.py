"""Captured predictions are those that the method makes by itself, whatever the size of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adjobs import devices, methods
from adjobs.evaluation.evaluate import DeviceConfig, evaluation_mode, predict_images
from adjobs.inference.engine import create_engine
from adjobs.inference.engine_captured import SIZES, CapturedEngine, first, join
from adjobs.inference.engine_torch import TorchEngine
from tests.helpers.recorded import RecordingCapturer
from tests.helpers.tiny import tiny_method

CPU = DeviceConfig(torch.device("cpu"))
SIDE = 64


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def assert_same(predicted, expected) -> None:
    """But for rounding, of features to half precision too: memory of another address may be computed in another order."""
    np.testing.assert_allclose(predicted.score, expected.score, rtol=1e-3)
    assert (predicted.anomaly_maps is None) == (expected.anomaly_maps is None)
    if expected.anomaly_maps is not None:
        span = float(np.ptp(expected.anomaly_maps))  # a map may cross 0, where nothing is a small part of the value
        np.testing.assert_allclose(predicted.anomaly_maps, expected.anomaly_maps, rtol=0, atol=1e-3 * span)
    assert predicted.extra_scores.keys() == expected.extra_scores.keys()
    for name, values in expected.extra_scores.items():
        np.testing.assert_allclose(predicted.extra_scores[name], values, rtol=1e-3)


def predict_in_batches(method, images: np.ndarray):
    """In the batches that the engine makes, since rounding may depend on their size."""
    arrays = []
    for start in range(0, len(images), SIZES[-1]):
        chunk = images[start : start + SIZES[-1]]
        size = min(size for size in SIZES if size >= len(chunk))
        filled = np.concatenate([chunk, np.repeat(chunk[-1:], size - len(chunk), axis=0)])
        arrays.append(first(predict_images(method, filled, CPU), len(chunk)))
    return join(arrays)


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_captured_and_predicts_the_same(name):
    """More images than the largest batch, and fewer than any."""
    method = tiny_method(name, SIDE).eval()
    capturer = RecordingCapturer()
    engine = CapturedEngine(method, SIDE, CPU, capturer)
    with evaluation_mode(method):
        for count in (1, 2, 1, 4, 19, 16, 3):
            assert_same(engine.predict(images(count)), predict_in_batches(method, images(count)))
    assert capturer.captures == len(SIZES)


def test_what_cannot_be_captured_is_computed_with_one_warning(caplog):
    method = tiny_method("cdo", SIDE).eval()
    engine = CapturedEngine(method, SIDE, CPU, RecordingCapturer(refuses=True))
    with evaluation_mode(method):
        for count in (1, 5, 1):
            assert_same(engine.predict(images(count)), predict_in_batches(method, images(count)))
    assert [record.getMessage() for record in caplog.records] == [
        "predictions are not captured as CUDA graphs, which is slower: it was told so"
    ]


def test_a_detector_on_a_gpu_captures_its_predictions(monkeypatch):
    method = tiny_method("cdo", SIDE).eval()
    monkeypatch.setattr(devices, "capturer", lambda device: RecordingCapturer())
    assert isinstance(create_engine("auto", method, SIDE, CPU), CapturedEngine)
    assert isinstance(create_engine("torch", method, SIDE, CPU), TorchEngine)
